"""Pods and nodes."""

from __future__ import annotations

from typing import Any

import msgspec

from eru.model.stored import Stored

# Resource kind name -> what a node has or uses of it, in that kind's own JSON
# shape (see `resource`). The same nesting is used for grants and requests.
Resources = dict[str, dict[str, Any]]


class Pod(Stored):
    """A named set of nodes."""

    name: str
    desc: str = ""


class Node(Stored):
    """A machine, without what it has and uses (see NodeResource) and without secrets.

    `bypass`: taken out of scheduling by its operator. `test`: needs no
    heartbeat to be schedulable.
    """

    name: str
    podname: str
    endpoint: str
    labels: dict[str, str] = {}
    bypass: bool = False
    test: bool = False
    has_tls: bool = False
    created_at: float = 0.0


class NodeTLS(Stored):
    """PEM texts for the node's engine. Never logged, never returned by any call."""

    ca: str = ""
    cert: str = ""
    key: str = ""

    def __repr__(self) -> str:
        return "NodeTLS(***)"


class NodeResource(Stored):
    """What a node has and what is given away: the unit of consistency.

    Every change of usage is a transaction that compares this record's
    `mod_revision`. Invariant: `usage` is the sum of the grants of the node's
    workloads and of its intents.
    """

    capacity: Resources = {}
    usage: Resources = {}


class Heartbeat(Stored):
    """Present under a lease while the node's agent reports."""

    nodename: str
    podname: str = ""
    at: float = 0.0


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine says of its machine. Sizes in bytes.

    `nodename` is filled in by the core before resource kinds see it.
    """

    type: str
    id: str = ""
    ncpu: int = 0
    memory: int = 0
    storage: int = 0
    resources: dict[str, bytes] = {}
    version: str = ""
    nodename: str = ""
