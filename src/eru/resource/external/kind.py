"""An external program as a resource kind.

Such a program keeps records of its own, by node name. Eru's store stays the
truth: before anything is computed the program is told capacity and usage of
the node as they are stored (`set-node-resource-info`), and what it answers is
stored. So programs need no locking, and a core that lost a race leaves
nothing wrong behind. The node's name travels in the records under `_node`.

A node that was added before the program was installed has no record of it:
it takes workloads that ask nothing of the program, and no others.

Each call is a process: `blocking` is true, and counts per request are kept
until a node changes.
"""

from __future__ import annotations

import base64
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from eru.model.errors import EruError, InvalidInput, NoCapacity, Refused
from eru.model.nodes import EngineInfo
from eru.model.refusals import Reason, Refusal
from eru.resource.contract import UNLIMITED, Allotment, Bag, Gauge, Grant, Measure, Realloted, Record
from eru.resource.external.call import Program

NODE = "_node"  # the key in capacity and usage records that names the node
NOT_ENOUGH = "cannot alloc a plan, not enough resource"
_KEPT_MAX = 16  # different requests whose counts are kept
_NOTHING = "null"  # the request of a workload that asks nothing of the program
_ASKED_AT_ONCE_MAX = 1_000  # nodes in one question

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class ExternalKind:
    """See the module. `metrics`: ask the program for gauges, which is one process per node and scrape."""

    blocking = True

    def __init__(self, program: Program, *, metrics: bool = False) -> None:
        self.program = program
        self.name = program.name
        self._metrics = metrics
        self._lock = threading.RLock()  # one question with the state it is asked on
        self._capacities: dict[str, Record] = {}
        self._described: dict[str, tuple[str, list[str]]] | None = None

    # Nodes.

    def node_added(self, bag: Bag | None, info: EngineInfo) -> tuple[Record, Record]:
        if not info.nodename:
            raise InvalidInput(f"resource plugin {self.name}: the node has no name yet")
        with self._lock:
            with contextlib.suppress(Refused):  # what it may still remember of an earlier node of this name
                self.program.call("remove-node", {"nodename": info.nodename})
            answer = self._call("add-node", {"nodename": info.nodename, "resource": _bag(bag), "info": _info(info)})
        return self._records(info.nodename, answer)

    def node_changed(self, capacity: Record, usage: Record, bag: Bag, *, delta: bool) -> tuple[Record, Record]:
        with self._lock:
            node = self._tell(capacity, usage)
            answer = self._call(
                "set-node-resource-capacity",
                {"nodename": node, "resource": None, "resource_request": _bag(bag), "delta": delta, "incr": True},
            )
            now = self._call("get-node-resource-info", {"nodename": node, "workloads_resource": []})
        after = {**_object(self.name, answer, "after"), NODE: node}
        self._capacities[node] = after
        return after, {**_object(self.name, now, "usage"), NODE: node}

    def table(self) -> ExternalTable:
        return ExternalTable(self)

    def zero(self, capacity: Record) -> Record:
        """The shape of the capacity, every number in it 0."""
        return {key: value if key == NODE else _zeroed(value) for key, value in capacity.items()}

    # Workloads.

    def parse_request(self, bag: Bag | None) -> str:
        """The bag as JSON text; what is in it only the program knows."""
        return _encoder.encode(_bag(bag)).decode()

    def allot(self, capacity: Record, usage: Record, request: str, count: int) -> list[Allotment]:
        if count <= 0:
            return []
        if NODE not in capacity and request == _NOTHING:
            return [Allotment({}, {}) for _ in range(count)]
        with self._lock:
            node = self._tell(capacity, usage)
            try:
                answer = self._call(
                    "calculate-deploy",
                    {
                        "nodename": node,
                        "deploy_count": count,
                        "workload_resource_request": msgspec.json.decode(request),
                    },
                )
            except Refused as error:
                raise NoCapacity(f"need: {count}: {error}: {NOT_ENOUGH}") from error
        params, grants = _list(answer, "engines_params"), _list(answer, "workloads_resource")
        if len(params) != count or len(grants) != count:
            raise Refused(
                f"resource plugin {self.name}: calculate-deploy of {count} answered {len(grants)} workloads "
                f"and {len(params)} engine parameters"
            )
        return [Allotment(grant, given) for grant, given in zip(grants, params, strict=True)]

    def add(self, usage: Record, grants: Sequence[Grant]) -> Record:
        return self._moved(usage, grants, incr=True)

    def subtract(self, usage: Record, grants: Sequence[Grant]) -> Record:
        return self._moved(usage, grants, incr=False)

    def reallot(self, capacity: Record, usage: Record, old: Grant, delta: Bag) -> Realloted:
        if NODE not in capacity and not delta:
            return Realloted(Allotment(dict(old), {}), usage)
        with self._lock:
            node = self._tell(capacity, usage)
            try:
                answer = self._call(
                    "calculate-realloc",
                    {"nodename": node, "workload_resource": old, "workload_resource_request": _bag(delta)},
                )
            except Refused as error:
                raise NoCapacity(f"{error}: {NOT_ENOUGH}") from error
            allotment = Allotment(
                _object(self.name, answer, "workload_resource"), _object(self.name, answer, "engine_params")
            )
            after = self._moved(usage, [_object(self.name, answer, "delta_resource")], incr=True)
        return Realloted(allotment, after)

    def remap(self, capacity: Record, usage: Record, grants: Mapping[str, Grant]) -> dict[str, dict[str, Any]]:
        if not grants or NODE not in capacity:
            return {}
        with self._lock:
            node = self._tell(capacity, usage)
            answer = self._call("calculate-remap", {"nodename": node, "workloads_resource": dict(grants)})
        return dict(_value(answer, "engine_params_map") or {})

    # Telling.

    def explain(self, nodename: str, capacity: Record, usage: Record, request: str) -> Refusal | None:
        if NODE not in capacity:
            if request == _NOTHING:
                return None
            return self._refusal(
                nodename,
                f"the node is not known to resource plugin {self.name}: eru node set --extra-resources tells it",
            )
        try:
            with self._lock:
                node = self._tell(capacity, usage)
                fit, _, _, _ = self.ask([node], request)
        except EruError as error:
            return self._refusal(nodename, str(error))
        return None if fit[0] > 0 else self._refusal(nodename, f"resource plugin {self.name} has no room for it there")

    def diffs(self, usage: Record, grants: Sequence[Grant]) -> list[str]:
        if NODE not in usage:
            return []
        with self._lock:
            node = self._tell(self._capacity_of(usage), usage)
            answer = self._call("get-node-resource-info", {"nodename": node, "workloads_resource": list(grants)})
        return [str(text) for text in _value(answer, "diffs") or []]

    def gauges(self, podname: str, nodename: str, capacity: Record, usage: Record) -> list[Gauge]:
        if not self._metrics or NODE not in capacity:
            return []
        with self._lock:
            self._tell(capacity, usage)
            if self._described is None:
                described = self.program.call("get-metrics-description", {}) or []
                self._described = {d["name"]: (d.get("help", ""), list(d.get("labels") or [])) for d in described}
            samples = self.program.call("get-metrics", {"podname": podname, "nodename": nodename}) or []
        found = []
        for sample in samples:
            help_, labels = self._described.get(sample["name"], ("", []))
            pairs = dict(zip(labels, sample.get("labels") or [], strict=False))
            found.append(Gauge(sample["name"], help_, pairs, sample.get("key", ""), float(sample.get("value") or 0)))
        return found

    def idleness(self, capacity: Record, usage: Record) -> float:
        """Nothing is known of it; other kinds decide."""
        return 0.0

    # Inside, and for the table.

    def ask(self, nodes: Sequence[str], request: str) -> tuple[Ints, Floats, Floats, float]:
        """Capacity, usage, rate of `nodes`, and the weight. Nodes that the program leaves out take nothing."""
        answer = self._call(
            "get-nodes-deploy-capacity",
            {"nodenames": list(nodes), "workload_resource": msgspec.json.decode(request)},
        )
        by_node: Mapping[str, Any] = _value(answer, "nodes_deploy_capacity_map") or {}
        capacity, weight = np.zeros(len(nodes), np.int64), 1.0
        usage, rate = np.zeros(len(nodes)), np.zeros(len(nodes))
        for index, node in enumerate(nodes):
            if (said := by_node.get(node)) is None:
                continue
            capacity[index] = min(max(int(_value(said, "capacity") or 0), 0), UNLIMITED)
            usage[index], rate[index] = float(_value(said, "usage") or 0), float(_value(said, "rate") or 0)
            weight = float(_value(said, "weight") or weight)
        return capacity, usage, rate, weight

    def tell(self, capacity: Record, usage: Record) -> None:
        """Bring the program's own record of a node in line with the store's."""
        with self._lock:
            self._tell(capacity, usage)

    def _tell(self, capacity: Record, usage: Record) -> str:
        node = capacity.get(NODE)
        if not node:
            raise Refused(
                f"resource plugin {self.name} does not know the node: eru node set --extra-resources tells it"
            )
        self._capacities[node] = capacity
        told = {"nodename": node, "capacity": _bare(capacity), "usage": _bare(usage)}
        try:
            self.program.call("set-node-resource-info", told)
        except Refused:
            # Some programs know no 0 of a thing: what is not used must not be named.
            slim = _named(told["usage"])
            if slim == told["usage"]:
                raise
            self.program.call("set-node-resource-info", {**told, "usage": slim})
        return str(node)

    def _moved(self, usage: Record, grants: Sequence[Grant], *, incr: bool) -> Record:
        if not any(grants):
            return usage
        with self._lock:
            node = self._tell(self._capacity_of(usage), usage)
            answer = self._call(
                "set-node-resource-usage",
                {
                    "nodename": node,
                    "workloads_resource": list(grants),
                    "resource": None,
                    "resource_request": None,
                    "delta": True,
                    "incr": incr,
                },
            )
        return {**_object(self.name, answer, "after"), NODE: node}

    def _capacity_of(self, usage: Record) -> Record:
        """The node's capacity as it was seen last; only needed to hand it back to the program."""
        node = usage.get(NODE)
        if not node:
            raise Refused(
                f"resource plugin {self.name} does not know the node: eru node set --extra-resources tells it"
            )
        if node not in self._capacities:
            answer = self._call("get-node-resource-info", {"nodename": node, "workloads_resource": []})
            self._capacities[node] = {**_object(self.name, answer, "capacity"), NODE: node}
        return self._capacities[node]

    def _records(self, node: str, answer: Any) -> tuple[Record, Record]:
        capacity = {**_object(self.name, answer, "capacity"), NODE: node}
        self._capacities[node] = capacity
        return capacity, {**_object(self.name, answer, "usage"), NODE: node}

    def _call(self, command: str, payload: Any) -> Mapping[str, Any]:
        answer = self.program.call(command, payload)
        if answer is not None and not isinstance(answer, dict):
            raise Refused(f"resource plugin {self.name}: {command} answered a {type(answer).__name__}, not an object")
        return answer or {}

    def _refusal(self, nodename: str, detail: str) -> Refusal:
        return Refusal(
            nodename=nodename, reason=Reason.RESOURCE, dimension=f"{self.name}.capacity", wanted=1, detail=detail
        )


class ExternalTable:
    """Counts of an external kind, kept until a node changes; see `resource.contract.Table`.

    A record seen for the first time is taken to be what the program has; changes after that are told to it.
    """

    def __init__(self, kind: ExternalKind) -> None:
        self._kind = kind
        self._records: dict[int, tuple[Record, Record]] = {}
        self._untold: set[int] = set()
        self._stamp: dict[int, int] = {}
        self._clock = 0
        self._kept: OrderedDict[str, dict[int, tuple[int, int, float, float]]] = OrderedDict()
        self._weight = 1.0

    def set(self, row: int, capacity: Record, usage: Record) -> None:
        """Row `row` is a node with this capacity and usage."""
        if row in self._records and self._records[row] != (capacity, usage):
            self._untold.add(row)
        self._records[row] = (capacity, usage)
        self._clock += 1
        self._stamp[row] = self._clock

    def clear(self, row: int) -> None:
        """Row `row` is no node any more."""
        self._records.pop(row, None)
        self._untold.discard(row)

    def measure(self, request: str, rows: Ints) -> Measure:
        """Capacity, usage and rate on `rows`; may run the program."""
        kept = self._kept.setdefault(request, {})
        self._kept.move_to_end(request)
        if len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        wanted = [row for row in rows.tolist() if row in self._records and NODE in self._records[row][0]]
        stale = [row for row in wanted if row not in kept or kept[row][0] != self._stamp[row]]
        for row in stale:
            if row in self._untold:
                self._kind.tell(*self._records[row])
                self._untold.discard(row)
        for start in range(0, len(stale), _ASKED_AT_ONCE_MAX):
            part = stale[start : start + _ASKED_AT_ONCE_MAX]
            nodes = [self._records[row][0][NODE] for row in part]
            capacity, usage, rate, self._weight = self._kind.ask(nodes, request)
            for i, row in enumerate(part):
                kept[row] = (self._stamp[row], int(capacity[i]), float(usage[i]), float(rate[i]))
        known = set(wanted)
        other = (0, UNLIMITED if request == _NOTHING else 0, 0.0, 0.0)
        nobody = (0, 0, 0.0, 0.0)
        said = [kept[row] if row in known else other if row in self._records else nobody for row in rows.tolist()]
        return Measure(
            np.array([one[1] for one in said], np.int64),
            np.array([one[2] for one in said], np.float64),
            np.array([one[3] for one in said], np.float64),
            self._weight,
        )


_encoder = msgspec.json.Encoder(order="sorted")


def _bag(bag: Bag | None) -> dict[str, Any] | None:
    return dict(bag) if bag else None


def _bare(record: Record) -> Record:
    return {key: value for key, value in record.items() if key != NODE}


def _named(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Without the zeros in tables of things; numbers of the node itself stay."""
    return {
        key: {name: part for name, part in value.items() if part != 0} if isinstance(value, dict) else value
        for key, value in usage.items()
    }


def _info(info: EngineInfo) -> dict[str, Any]:
    return {
        "Type": info.type,
        "ID": info.id,
        "NCPU": info.ncpu,
        "MemTotal": info.memory,
        "StorageTotal": info.storage,
        "Resources": {name: base64.b64encode(raw).decode() for name, raw in info.resources.items()},
    }


def _value(answer: Mapping[str, Any], key: str) -> Any:
    """A value by its name in any case: programs in several languages spell it as they like."""
    if key in answer:
        return answer[key]
    return next((value for name, value in answer.items() if name.lower() == key), None)


def _object(name: str, answer: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = _value(answer, key)
    if value is not None and not isinstance(value, dict):
        raise Refused(f"resource plugin {name} answered {key} as a {type(value).__name__}, not an object")
    return dict(value or {})


def _list(answer: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    return [dict(item or {}) for item in _value(answer, key) or []]


def _zeroed(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {key: _zeroed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_zeroed(part) for part in value]
    return 0
