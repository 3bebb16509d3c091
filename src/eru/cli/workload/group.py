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
        "deploy": ("eru.cli.workload.deploy:deploy", "Run instances of an app"),
        "list": ("eru.cli.workload.verbs:list_", "Workloads, of one app or of all"),
        "get": ("eru.cli.workload.verbs:get", "Single workloads"),
        "status": ("eru.cli.workload.status:status", "Whether workloads are running and healthy"),
        "logs": ("eru.cli.workload.logs:logs", "What workloads print"),
        "attach": ("eru.cli.workload.console:attach", "What a workload prints from now on"),
        "exec": ("eru.cli.workload.exec:exec_", "Run a command inside a workload"),
        "events": ("eru.cli.cluster.events:events", "What happened to workloads, and why"),
        "why": ("eru.cli.cluster.why:why", "An instance's life in five lines"),
        "top": ("eru.cli.cluster.top:top", "CPU and memory in use, live"),
        "start": ("eru.cli.workload.control:start", "Start stopped workloads"),
        "stop": ("eru.cli.workload.control:stop", "Stop workloads"),
        "restart": ("eru.cli.workload.control:restart", "Stop and start workloads"),
        "suspend": ("eru.cli.workload.control:suspend", "Freeze workloads"),
        "resume": ("eru.cli.workload.control:resume", "Thaw workloads"),
        "scale": ("eru.cli.workload.scale:scale", "Have exactly so many instances"),
        "replace": ("eru.cli.workload.replace:replace", "Replace instances by new ones, one by one"),
        "realloc": ("eru.cli.workload.realloc:realloc", "Give a workload more or less"),
        "remove": ("eru.cli.workload.control:remove", "Stop workloads and remove them"),
        "dissociate": ("eru.cli.workload.control:dissociate", "Forget workloads without touching them"),
        "copy": ("eru.cli.workload.transfer:copy", "Fetch files from workloads"),
        "send": ("eru.cli.workload.transfer:send", "Put files into workloads"),
        "sendlarge": ("eru.cli.workload.transfer:sendlarge", "Put one file of any size into workloads"),
        "get-status": ("eru.cli.workload.status:get_status", "The reported status of workloads"),
        "set-status": ("eru.cli.workload.status:set_status", "Report a status, as an agent would"),
    },
    aliases={"ls": "list", "rm": "remove", "log": "logs"},
)
