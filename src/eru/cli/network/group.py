"""`eru network`: connect workloads to networks."""

from __future__ import annotations

from eru.cli.lazy import LazyGroup

group = LazyGroup(
    name="network",
    help="Connect workloads to networks.",
    examples="eru network connect 3f2a --network front\neru network disconnect 3f2a --network front",
    lazy={
        "connect": ("eru.cli.network.verbs:connect", "Connect workloads to a network"),
        "disconnect": ("eru.cli.network.verbs:disconnect", "Disconnect workloads from a network"),
    },
)
