"""`eru node`: machines with an engine."""

from __future__ import annotations

from eru.cli.lazy import LazyGroup

group = LazyGroup(
    name="node",
    help="A node is a machine with an engine that runs workloads.",
    examples="""
eru node add prod --nodename web1 --endpoint tcp://10.0.0.5:2376
eru node list prod
eru node down web1          no new workloads there
eru node drain web1         before work on the machine
eru node resource web1      what is granted, and whether it adds up
""",
    lazy={
        "list": ("eru.cli.node.verbs:list_", "The nodes of a pod, or of all"),
        "get": ("eru.cli.node.verbs:get", "One node"),
        "add": ("eru.cli.node.change:add", "Add a node to a pod"),
        "set": ("eru.cli.node.change:set_", "Change a node"),
        "remove": ("eru.cli.node.verbs:remove", "Remove a node that runs nothing"),
        "up": ("eru.cli.node.verbs:up", "Let a node take workloads"),
        "down": ("eru.cli.node.verbs:down", "Let a node take no new workloads"),
        "drain": ("eru.cli.node.drain:drain", "Let a node take nothing new, and see it become empty"),
        "resource": ("eru.cli.node.verbs:resource", "What is granted on a node; --fix repairs the books"),
        "workloads": ("eru.cli.node.verbs:workloads", "The workloads of a node"),
        "set-status": ("eru.cli.node.status:set_status", "Report a node alive"),
        "watch-status": ("eru.cli.node.status:watch_status", "Follow which nodes come and go"),
    },
    aliases={
        "ls": "list",
        "rm": "remove",
        "update": "set",
        "cordon": "down",
        "uncordon": "up",
        "containers": "workloads",
    },
)
