"""Durable notes of what is about to be done, so that a crash leaves nothing behind."""

from __future__ import annotations

import enum

from eru.model.nodes import Resources
from eru.model.stored import Stored
from eru.model.workloads import Workload


class Verb(str, enum.Enum):
    """What is being done under an intent."""

    DEPLOY = "deploy"
    REPLACE = "replace"
    REMOVE = "remove"
    DISSOCIATE = "dissociate"
    REALLOC = "realloc"
    LAMBDA = "lambda"
    RESTART = "restart"


class Intent(Stored):
    """One workload-to-be (or to-be-gone) on one node.

    Written in the transaction that raises (deploy, replace, realloc) usage by
    `grant`; deleted in the transaction that records the outcome. While it
    exists and its `owner` core is alive, only the owner acts on it; when the
    owner's registration is gone, any core sweeps it: finds the engine object
    by `name` (or `id`), finishes or takes back, and settles the usage.
    """

    op: str  # one id per operation, for the story in the logs
    verb: Verb
    owner: str  # core instance id, see store.keys.core
    nodename: str
    name: str  # workload name; also the engine object's name
    podname: str = ""
    id: str = ""  # known for verbs on existing workloads
    replaces: str = ""  # id of the workload this one takes over from
    grant: Resources = {}
    counted: bool = True  # this intent's grant is part of the node's usage
    created_at: float = 0.0
    successor: str = ""  # replace: name of the workload that takes over from `id`
    params: Resources = {}  # realloc: engine parameters that belong to `grant`, to go back to
    force: bool = False  # remove: also when it still runs
    running: bool = True  # replace: the old one ran before
    stopping: bool = False  # replace: its stop was asked for; an engine goes on with it when nobody waits any more
    group: str = ""  # deploy: the group whose fate it shares
    record: Workload | None = None  # deploy of a group: what is recorded if the group is committed
    deadline: float = 0.0  # lambda: Unix time after which it is removed even if it still runs; 0: none


class Group(Stored):
    """The fate of a deploy that is all or nothing: open until `committed`, deleted when it is given up or done."""

    op: str
    owner: str  # core instance id
    committed: bool = False
    created_at: float = 0.0
