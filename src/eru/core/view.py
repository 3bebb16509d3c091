"""The cluster as it was at one revision, in the shapes that planning needs. No I/O.

Nodes have a stable row number; what is asked of all nodes at once (pod, up or
down, resources, instance counts) lives in arrays indexed by row. Rows are
offered in the order of node names, so that equal states give equal plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eru.model.intents import Intent, Verb
from eru.model.names import parse_workload_name
from eru.model.nodes import Node, Resources
from eru.resource.contract import Kind, Table

Rows = NDArray[np.int64]

_FIRST_ROWS = 64
_NOTHING: dict[str, Any] = {}  # stands for the record of a kind that a node has nothing of
_LABEL_CACHE_MAX = 64
_CHOSEN_CACHE_MAX = 64
_ARRAY_FROM_ROWS = 256  # a dictionary is smaller for apps on fewer nodes


@dataclass(slots=True)
class NodeView:
    """One node. `node` or `resource_revision` is missing while its records arrive one after the other.

    `capacity` and `usage` are shared with the tables: replaced, never mutated.
    """

    name: str
    row: int
    node: Node | None = None
    node_revision: int = 0
    capacity: Resources = field(default_factory=dict)
    usage: Resources = field(default_factory=dict)
    resource_revision: int = 0
    heartbeat: bool = False
    shown: object = None  # what the public API made of `capacity` and `usage`, for the next time

    @property
    def complete(self) -> bool:
        """Whether it can be scheduled on at all."""
        return self.node is not None and self.resource_revision > 0

    @property
    def available(self) -> bool:
        """As clients see it: a test node unless bypassed, any other while its heartbeat lives."""
        if self.node is None:
            return False
        return not self.node.bypass if self.node.test else self.heartbeat

    @property
    def up(self) -> bool:
        """May be chosen by a deploy that does not name it."""
        return self.node is not None and self.available and not self.node.bypass


@dataclass(frozen=True, slots=True)
class IntentView:
    """An intent and the revision it was last written at."""

    key: str
    intent: Intent
    revision: int


class View:
    """Everything `Fleet` knows. Changed only by `Fleet`; read by everybody between two awaits."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self.kinds = kinds
        self.pods: dict[str, bytes] = {}
        self.cores: dict[str, bytes] = {}
        self.by_name: dict[str, NodeView] = {}
        self.by_row: list[NodeView | None] = []
        self.tables: dict[str, Table] = {name: kind.table() for name, kind in kinds.items()}
        self.intents: dict[str, IntentView] = {}
        self.groups: dict[str, tuple[str, str]] = {}  # key -> operation, its core
        self.changed_at: Rows = np.zeros(_FIRST_ROWS, np.int64)  # newest revision of node or resource record
        self.pending: Rows = np.zeros(_FIRST_ROWS, np.int64)  # instances planned here, not yet reserved
        self._free_rows: list[int] = []
        self._pod_numbers: dict[str, int] = {}
        self._pod: Rows = np.full(_FIRST_ROWS, -1, np.int64)
        self._up: NDArray[np.bool_] = np.zeros(_FIRST_ROWS, np.bool_)
        self._order: Rows | None = None
        self._counts: dict[tuple[str, str], _Counts] = {}
        self._planned: dict[tuple[str, str], _Counts] = {}
        self._chosen: dict[tuple[object, ...], Rows] = {}  # answers of `rows_up`, until a node changes
        self._labels_generation = 0
        self._label_masks: dict[tuple[tuple[str, str], ...], tuple[int, NDArray[np.bool_]]] = {}

    # Nodes.

    def nodes(self, podname: str = "") -> Iterator[NodeView]:
        """Known nodes in name order, of one pod or of all."""
        for row in self.order:
            found = self.by_row[row]
            if found is not None and found.node is not None and (not podname or found.node.podname == podname):
                yield found

    @property
    def order(self) -> Rows:
        """All rows in use, sorted by node name."""
        if self._order is None:
            self._order = np.array([self.by_name[name].row for name in sorted(self.by_name)], np.int64)
        return self._order

    def rows_up(self, podname: str, labels: Mapping[str, str], excludes: Iterable[str]) -> Rows:
        """Rows in name order that a deploy may choose from by itself. Not to be changed."""
        key = (podname, *sorted(labels.items()), "", *sorted(excludes))
        rows = self._chosen.get(key)
        if rows is None:
            if len(self._chosen) >= _CHOSEN_CACHE_MAX:
                self._chosen.clear()
            rows = self._chosen[key] = self._choose(podname, labels, excludes)
        return rows

    def _choose(self, podname: str, labels: Mapping[str, str], excludes: Iterable[str]) -> Rows:
        mask = self._up.copy()
        if podname:
            mask &= self._pod == self._pod_numbers.get(podname, -2)
        if labels:
            mask &= self._labelled(labels)
        for name in excludes:
            if (found := self.by_name.get(name)) is not None:
                mask[found.row] = False
        order = self.order
        return order[mask[order]]

    def name_of(self, row: int) -> str:
        found = self.by_row[row]
        if found is None:
            raise LookupError(f"row {row} is not in use")
        return found.name

    def ensure(self, name: str) -> NodeView:
        """The node's entry, made when it is not there yet."""
        found = self.by_name.get(name)
        if found is None:
            row = self._free_rows.pop() if self._free_rows else len(self.by_row)
            if row == len(self.by_row):
                self.by_row.append(None)
                self._grow(row)
            found = NodeView(name, row)
            self.by_name[name] = found
            self.by_row[row] = found
            self._order = None
            self._chosen.clear()
        return found

    def refresh(self, found: NodeView) -> None:
        """Bring the arrays in line with the entry; drops an entry that has nothing left."""
        row = found.row
        self._chosen.clear()
        if found.node is None and not found.resource_revision and not found.heartbeat:
            self._drop(found)
            return
        self._up[row] = found.up and found.complete
        self._pod[row] = -1 if found.node is None else self._pod_number(found.node.podname)
        self.changed_at[row] = max(found.node_revision, found.resource_revision)

    def set_node(self, name: str, node: Node | None, revision: int) -> None:
        """A newer node record, or None when it is gone."""
        found = self.ensure(name) if node is not None else self.by_name.get(name)
        if found is None or revision < found.node_revision:
            return
        found.node, found.node_revision = node, revision if node is not None else 0
        self._labels_generation += 1
        self.refresh(found)

    def set_heartbeat(self, name: str, beats: bool) -> None:
        """A sign of life came, or ended."""
        found = self.ensure(name) if beats else self.by_name.get(name)
        if found is not None and found.heartbeat != beats:
            found.heartbeat = beats
            self.refresh(found)

    def set_resource(self, name: str, capacity: Resources, usage: Resources, revision: int) -> None:
        """A newer resource record; an older one is ignored."""
        found = self.ensure(name)
        if revision <= found.resource_revision:
            return
        fresh = found.resource_revision == 0
        had, used = found.capacity, found.usage
        found.capacity, found.usage, found.resource_revision = capacity, usage, revision
        for kind, table in self.tables.items():
            has, uses = capacity.get(kind, _NOTHING), usage.get(kind, _NOTHING)
            # Records are never mutated: the very same ones say the same, and most deploys move one kind only.
            if fresh or has is not had.get(kind, _NOTHING) or uses is not used.get(kind, _NOTHING):
                table.set(found.row, has, uses)
        if fresh:
            self.refresh(found)
        else:
            self.changed_at[found.row] = revision

    def drop_resource(self, name: str) -> None:
        """The resource record is gone."""
        if (found := self.by_name.get(name)) is not None:
            found.capacity, found.usage, found.resource_revision = {}, {}, 0
            for table in self.tables.values():
                table.clear(found.row)
            self.refresh(found)

    # Counts of instances, those in flight included.

    def count_array(self, app: str, entrypoint: str, rows: Rows) -> Rows:
        """Instances per given row."""
        known = self._counts.get((app, entrypoint))
        planned = self._planned.get((app, entrypoint))
        counts = known.of(rows, len(self.by_row)) if known is not None else np.zeros(len(rows), np.int64)
        return counts + planned.of(rows, len(self.by_row)) if planned is not None else counts

    def count(self, app: str, entrypoint: str, nodename: str) -> int:
        """Instances on one node."""
        found = self.by_name.get(nodename)
        counts = self._counts.get((app, entrypoint))
        return counts.rows.get(found.row, 0) if found and counts else 0

    def counts(self) -> dict[tuple[str, str], dict[int, int]]:
        """(app, entrypoint) -> row -> instances, of all."""
        return {key: counts.rows for key, counts in self._counts.items()}

    def add_count(self, app: str, entrypoint: str, nodename: str, step: int) -> None:
        """Raise or lower a count; entries at zero disappear."""
        _step(self._counts, (app, entrypoint), self.ensure(nodename).row, step)

    def plan(self, app: str, entrypoint: str, row: int, step: int) -> None:
        """Instances that are planned here and not reserved yet; survives a reload."""
        self.pending[row] += step
        _step(self._planned, (app, entrypoint), row, step)

    # Intents.

    def put_intent(self, key: str, intent: Intent, revision: int) -> None:
        """A new or newer intent."""
        self.drop_intent(key)
        self.intents[key] = IntentView(key, intent, revision)
        self._count_intent(intent, 1)

    def drop_intent(self, key: str) -> None:
        """The intent is gone; no error when it is not there."""
        if (old := self.intents.pop(key, None)) is not None:
            self._count_intent(old.intent, -1)

    def reset(self) -> None:
        """Forget every fact; rows and what is pending stay with their nodes."""
        self.pods.clear()
        self.cores.clear()
        self.groups.clear()
        self._chosen.clear()
        self.intents.clear()
        self._counts.clear()
        for found in self.by_name.values():
            found.node, found.node_revision, found.heartbeat = None, 0, False
            found.capacity, found.usage, found.resource_revision = {}, {}, 0
            self._up[found.row] = False
            self._pod[found.row] = -1

    def sweep_rows(self) -> None:
        """After a reload: drop the entries that nothing was said about."""
        for found in list(self.by_name.values()):
            if not found.resource_revision:
                for table in self.tables.values():
                    table.clear(found.row)
            self.refresh(found)

    def _count_intent(self, intent: Intent, step: int) -> None:
        if intent.counted and intent.verb in (Verb.DEPLOY, Verb.LAMBDA):
            app, entrypoint, _ = parse_workload_name(intent.name)
            self.add_count(app, entrypoint, intent.nodename, step)

    def _drop(self, found: NodeView) -> None:
        if any(found.row in counts.rows for counts in self._counts.values()) or self.pending[found.row]:
            self._up[found.row] = False
            return  # something still refers to the row; dropped when that has gone
        del self.by_name[found.name]
        self.by_row[found.row] = None
        self._up[found.row] = False
        self._pod[found.row] = -1
        self.changed_at[found.row] = 0
        self._free_rows.append(found.row)
        self._order = None

    def _grow(self, row: int) -> None:
        if row < len(self._pod):
            return
        more = len(self._pod)
        self._pod = np.concatenate([self._pod, np.full(more, -1, np.int64)])
        self._up = np.concatenate([self._up, np.zeros(more, np.bool_)])
        self.changed_at = np.concatenate([self.changed_at, np.zeros(more, np.int64)])
        self.pending = np.concatenate([self.pending, np.zeros(more, np.int64)])
        self._label_masks.clear()

    def _pod_number(self, podname: str) -> int:
        return self._pod_numbers.setdefault(podname, len(self._pod_numbers))

    def _labelled(self, labels: Mapping[str, str]) -> NDArray[np.bool_]:
        wanted = tuple(sorted(labels.items()))
        cached = self._label_masks.get(wanted)
        if cached is not None and cached[0] == self._labels_generation and len(cached[1]) == len(self._up):
            return cached[1]
        mask = np.zeros(len(self._up), np.bool_)
        for found in self.by_name.values():
            if found.node is not None:
                has = found.node.labels
                mask[found.row] = all(has.get(key) == value for key, value in wanted)
        if len(self._label_masks) >= _LABEL_CACHE_MAX:
            self._label_masks.clear()
        self._label_masks[wanted] = (self._labels_generation, mask)
        return mask


class _Counts:
    """Instances of one app's entrypoint by row; an array as well, once they are on many rows."""

    __slots__ = ("_array", "rows")

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self._array: Rows | None = None

    def step(self, row: int, step: int) -> None:
        now = self.rows.get(row, 0) + step
        if now:
            self.rows[row] = now
        else:
            self.rows.pop(row, None)
        if self._array is not None:
            if row < len(self._array):
                self._array[row] = now
            else:
                self._array = None  # the view has grown: made anew when it is asked for

    def of(self, rows: Rows, size: int) -> Rows:
        """Per given row; the view has `size` rows."""
        array = self._array
        if array is None or len(array) < size:
            array = np.zeros(size, np.int64)
            array[np.fromiter(self.rows.keys(), np.int64, len(self.rows))] = np.fromiter(
                self.rows.values(), np.int64, len(self.rows)
            )
            self._array = array if len(self.rows) >= _ARRAY_FROM_ROWS else None
        found: Rows = array.take(rows)
        return found


def _step(counts: dict[tuple[str, str], _Counts], key: tuple[str, str], row: int, step: int) -> None:
    of_key = counts.get(key)
    if of_key is None:
        of_key = counts[key] = _Counts()
    of_key.step(row, step)
    if not of_key.rows:
        del counts[key]
