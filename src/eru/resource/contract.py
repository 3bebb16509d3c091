"""What a resource kind must offer.

A *record* is a kind's JSON object inside NodeResource.capacity or .usage; a
*grant* is its object inside Workload.grant; a *bag* is its object inside a
request. All arithmetic about them lives in the kind; the core only stores
them, adds usage in transactions, and asks.

All methods are synchronous and pure. They raise InvalidInput for a wrong bag
and NoCapacity (with refusals) when something does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eru.model.nodes import EngineInfo
from eru.model.refusals import Refusal

Record = dict[str, Any]
Grant = dict[str, Any]
Bag = Mapping[str, Any]

UNLIMITED = np.iinfo(np.int64).max  # capacity when nothing is asked for


@dataclass(frozen=True, slots=True)
class Measure:
    """What one kind says of many nodes, one array element per candidate node.

    capacity: how many instances still fit (int64, UNLIMITED when nothing binds).
    usage:    share of this kind in use now (0..1, float64).
    rate:     share one instance adds (float64).
    weight:   how much usage and rate count when kinds are merged.
    """

    capacity: NDArray[np.int64]
    usage: NDArray[np.float64]
    rate: NDArray[np.float64]
    weight: float


@lru_cache(8)  # clusters differ in size, requests of one cluster do not
def _unbounded(nodes: int) -> Measure:
    capacity, zeros = np.full(nodes, UNLIMITED, np.int64), np.zeros(nodes)
    for array in (capacity, zeros):
        array.flags.writeable = False
    return Measure(capacity, zeros, zeros, 0.0)


def nothing_asked(known: NDArray[np.bool_]) -> Measure:
    """What a kind says when a request wants nothing of it: any number fits on nodes it knows. Not to be written to."""
    measure = _unbounded(len(known))
    if np.logical_and.reduce(known):
        return measure
    return Measure(np.where(known, UNLIMITED, 0), measure.usage, measure.rate, 0.0)


class Table(Protocol):
    """All nodes' records of one kind as columns, fed by the live view; row = node index.

    `capacity` and `usage` handed to `set` must not be mutated afterwards.
    """

    def set(self, row: int, capacity: Record, usage: Record) -> None: ...

    def clear(self, row: int) -> None: ...

    def measure(self, request: Any, rows: NDArray[np.int64]) -> Measure:
        """For a request made by the same kind's `parse_request`. Vectorised."""


@dataclass(frozen=True, slots=True)
class Allotment:
    """One instance's share: what is recorded, and what the engine is told."""

    grant: Grant
    engine_params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Realloted:
    """Result of a change of one workload's resources."""

    allotment: Allotment
    usage: Record  # the node's usage afterwards


class Kind(Protocol):
    """One kind of resource. `blocking`: calls may take long (external plugins); run them in a thread."""

    name: str
    blocking: bool

    # Nodes.
    def node_added(self, bag: Bag | None, info: EngineInfo) -> tuple[Record, Record]:
        """(capacity, usage) of a new node, from the request and what the engine says."""

    def node_changed(self, capacity: Record, usage: Record, bag: Bag, *, delta: bool) -> tuple[Record, Record]:
        """(capacity, usage) after SetNode; `delta`: add the bag's numbers, else replace.

        Refuses a capacity below what is in use.
        """

    def table(self) -> Table: ...

    # Workloads.
    def parse_request(self, bag: Bag | None) -> Any:
        """A checked request, as `Table.measure` and `allot` take it."""

    def allot(self, capacity: Record, usage: Record, request: Any, count: int) -> list[Allotment]:
        """Exactly `count` shares on one node, deterministic. Raises NoCapacity."""

    def add(self, usage: Record, grants: Sequence[Grant]) -> Record:
        """A new usage record with `grants` on top."""

    def subtract(self, usage: Record, grants: Sequence[Grant]) -> Record:
        """A new usage record without `grants`; never below zero in any part."""

    def reallot(self, capacity: Record, usage: Record, old: Grant, delta: Bag) -> Realloted:
        """Change one workload's share by the numbers in `delta` (all are increments)."""

    def remap(self, capacity: Record, usage: Record, grants: Mapping[str, Grant]) -> dict[str, dict[str, Any]]:
        """Engine parameters per workload id for those whose engine settings follow the node's
        free resources (the CPU share pool); empty when none do."""

    # Telling.
    def explain(self, nodename: str, capacity: Record, usage: Record, request: Any) -> Refusal | None:
        """Why not even one instance fits, or None when it does."""

    def diffs(self, usage: Record, grants: Sequence[Grant]) -> list[str]:
        """One sentence per part where usage is not the sum of the grants."""

    def zero(self, capacity: Record) -> Record:
        """The usage record of a node on which nothing runs."""

    def gauges(self, podname: str, nodename: str, capacity: Record, usage: Record) -> list[Gauge]: ...

    def idleness(self, capacity: Record, usage: Record) -> float:
        """0 (full) to 1 (idle), for choosing a build node."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """One published metric sample: Prometheus name and labels, and the statsd key."""

    name: str
    help: str
    labels: dict[str, str]
    key: str
    value: float
