"""`eru support`."""

from __future__ import annotations

from eru.cli.lazy import LazyGroup

group = LazyGroup(
    name="support",
    help="What others need to help you.",
    examples="eru support bundle\neru support bundle -o bundle.tar.gz",
    lazy={
        "bundle": (
            "eru.cli.cluster.support.bundle:bundle",
            "Collect the state of the cluster in one file, without secrets",
        )
    },
)
