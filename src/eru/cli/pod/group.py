"""`eru pod`: sets of nodes."""

from __future__ import annotations

from eru.cli.lazy import LazyGroup

group = LazyGroup(
    name="pod",
    help="A pod is a set of nodes.",
    examples="""
eru pod add prod --desc "machines for customers"
eru pod list
eru pod status prod
eru pod resource prod --filter 'memory >= 80%'
""",
    lazy={
        "status": ("eru.cli.pod.status:status", "How pods are: what is wrong, room, workloads"),
        "list": ("eru.cli.pod.verbs:list_", "All pods"),
        "add": ("eru.cli.pod.verbs:add", "Make a pod"),
        "remove": ("eru.cli.pod.verbs:remove", "Remove an empty pod"),
        "nodes": ("eru.cli.pod.nodes:nodes", "The nodes of a pod, or of all"),
        "resource": ("eru.cli.pod.resources:resource", "How full each node of a pod is"),
        "capacity": ("eru.cli.pod.resources:capacity", "How many more workloads of one size fit"),
        "networks": ("eru.cli.pod.verbs:networks", "The networks that workloads of a pod can join"),
    },
    aliases={"ls": "list", "rm": "remove"},
)
