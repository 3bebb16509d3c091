"""What can be asked about nodes, after the wire form was checked and normalised."""

from __future__ import annotations

import msgspec

from eru.model.nodes import NodeTLS, Resources


class NewNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node to add. `resources`: request bags per kind; what they leave out is taken from the engine."""

    name: str
    podname: str
    endpoint: str
    tls: NodeTLS | None = None
    labels: dict[str, str] = {}
    resources: Resources = {}
    test: bool = False


class NodeChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is to change about a node; empty parts stay as they are.

    `bypass` None: keep. `tls`: parts that are empty keep what was there.
    `delta`: the numbers in `resources` are increments.
    """

    name: str
    endpoint: str = ""
    tls: NodeTLS | None = None
    labels: dict[str, str] = {}
    resources: Resources = {}
    delta: bool = False
    workloads_down: bool = False
    bypass: bool | None = None


class WorkloadFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which workloads: narrowing from app to entrypoint to node, then by labels.

    An empty outer part makes the inner ones count for nothing. `limit` 0: all.
    """

    appname: str = ""
    entrypoint: str = ""
    nodename: str = ""
    labels: dict[str, str] = {}
    limit: int = 0
