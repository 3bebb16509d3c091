"""`eru workload`: what runs."""

from __future__ import annotations

from eru.cli.lazy import LazyGroup

group = LazyGroup(
    name="workload",
    help="A workload is one running instance of an app. Ids may be shortened, names work too.",
    examples="""
eru workload deploy web.yaml --pod prod --entry web --image shop:1.4 --count 3 --wait
eru workload list shop
eru workload logs -f shop/web
eru workload exec shop_web_aBcDeF -- sh -c 'ls /tmp'
eru workload scale shop web --count 5 --spec web.yaml
""",
    lazy={
        "deploy": ("eru.cli.deploy:deploy", "Run instances of an app"),
        "list": ("eru.cli.workload_verbs:list_", "Workloads, of one app or of all"),
        "get": ("eru.cli.workload_verbs:get", "Single workloads"),
        "status": ("eru.cli.workload_status:status", "Whether workloads are running and healthy"),
        "logs": ("eru.cli.logs:logs", "What workloads print"),
        "exec": ("eru.cli.exec:exec_", "Run a command inside a workload"),
        "start": ("eru.cli.control:start", "Start stopped workloads"),
        "stop": ("eru.cli.control:stop", "Stop workloads"),
        "restart": ("eru.cli.control:restart", "Stop and start workloads"),
        "suspend": ("eru.cli.control:suspend", "Freeze workloads"),
        "resume": ("eru.cli.control:resume", "Thaw workloads"),
        "scale": ("eru.cli.scale:scale", "Have exactly so many instances"),
        "replace": ("eru.cli.replace:replace", "Replace instances by new ones, one by one"),
        "realloc": ("eru.cli.realloc:realloc", "Give a workload more or less"),
        "remove": ("eru.cli.control:remove", "Stop workloads and remove them"),
        "dissociate": ("eru.cli.control:dissociate", "Forget workloads without touching them"),
        "copy": ("eru.cli.transfer:copy", "Fetch files from workloads"),
        "send": ("eru.cli.transfer:send", "Put files into workloads"),
        "sendlarge": ("eru.cli.transfer:sendlarge", "Put one file of any size into workloads"),
        "get-status": ("eru.cli.workload_status:get_status", "The reported status of workloads"),
        "set-status": ("eru.cli.workload_status:set_status", "Report a status, as an agent would"),
    },
    aliases={"ls": "list", "rm": "remove", "log": "logs"},
)
