"""Tries an external resource program before it is used: each command, and that the answers agree with each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from eru.model.errors import EruError
from eru.model.nodes import EngineInfo
from eru.resource.contract import UNLIMITED, Allotment, Record
from eru.resource.external.call import Program
from eru.resource.external.kind import NODE, ExternalKind

NODENAME = "eru-check-node"
_MANY = 5  # instances tried at most


@dataclass(slots=True)
class Report:
    """One line per thing tried: (what, "" or what is wrong)."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return bool(self.lines) and not any(wrong for _, wrong in self.lines)


class _Wrong(Exception):
    """What the program answered does not fit."""


def check(program: Program, node_bag: dict[str, Any], workload_bag: dict[str, Any]) -> Report:
    """Play a node's life with the program, in a node of its own (`NODENAME`), which is removed at the end.

    The bags are what an operator would send for the node and for one workload.
    """
    life = _Life(ExternalKind(program, metrics=True), node_bag, workload_bag)
    report = Report()
    for step in life.steps():
        try:
            step()
            wrong = ""
        except (EruError, _Wrong) as error:
            wrong = str(error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            wrong = f"the answer has an unexpected shape: {type(error).__name__}: {error}"
        report.lines.append(((step.__doc__ or step.__name__).strip(), wrong))
        if wrong and not life.capacity:
            break  # without a node nothing else can be tried
    try:
        program.call("remove-node", {"nodename": NODENAME})
        report.lines.append(("remove-node forgets the node", ""))
    except EruError as error:
        report.lines.append(("remove-node forgets the node", str(error)))
    return report


class _Life:
    def __init__(self, kind: ExternalKind, node_bag: dict[str, Any], workload_bag: dict[str, Any]) -> None:
        self.kind = kind
        self.node_bag = node_bag
        self.request = kind.parse_request(workload_bag)
        self.capacity: Record = {}
        self.usage: Record = {}
        self.allotments: list[Allotment] = []
        self.fit = 0

    def steps(self) -> list[Callable[[], None]]:
        return [
            self.add,
            self.measure,
            self.deploy,
            self.too_many,
            self.use,
            self.agree,
            self.realloc,
            self.remap,
            self.give_back,
            self.grow,
            self.metrics,
            self.nonsense,
        ]

    def add(self) -> None:
        """add-node answers capacity and usage"""
        info = EngineInfo(type="docker", ncpu=8, memory=16 << 30, storage=100 << 30, nodename=NODENAME)
        self.capacity, self.usage = self.kind.node_added(self.node_bag, info)
        _expect(len(self.capacity) > 1, "the capacity is empty")
        _expect(len(self.usage) > 1, "the usage is empty: give the same keys as in the capacity, with zeros")

    def measure(self) -> None:
        """get-nodes-deploy-capacity counts instances, the same as a table and as a single node"""
        table = self.kind.table()
        table.set(0, self.capacity, self.usage)
        self.fit = int(table.measure(self.request, np.zeros(1, np.int64)).capacity[0])
        _expect(self.fit > 0, "there is no room for one workload on the new node: choose other bags")
        refused = self.kind.explain(NODENAME, self.capacity, self.usage, self.request)
        _expect(refused is None, f"asked again, it says: {refused.detail if refused else ''}")

    def deploy(self) -> None:
        """calculate-deploy gives as many shares as it is asked for"""
        self.allotments = self.kind.allot(self.capacity, self.usage, self.request, min(self.fit, _MANY))

    def too_many(self) -> None:
        """calculate-deploy fails for more than fit"""
        if self.fit >= min(UNLIMITED, 1_000_000):
            return
        try:
            self.kind.allot(self.capacity, self.usage, self.request, self.fit + 1)
        except EruError:
            return
        raise _Wrong(f"{self.fit} instances fit, but {self.fit + 1} were given: exit with a code other than 0")

    def use(self) -> None:
        """set-node-resource-usage adds the shares, and room becomes less"""
        self.usage = self.kind.add(self.usage, self._grants())
        table = self.kind.table()
        self.kind.tell(self.capacity, self.usage)
        table.set(0, self.capacity, self.usage)
        left = int(table.measure(self.request, np.zeros(1, np.int64)).capacity[0])
        if self.fit < UNLIMITED:
            gone = len(self.allotments)
            _expect(left <= self.fit, f"{self.fit} fitted, {gone} were placed, and now {left} fit")

    def agree(self) -> None:
        """get-node-resource-info finds no difference when usage is the sum of the shares, and one when it is not"""
        told = self.kind.diffs(self.usage, self._grants())
        _expect(not told, f"it tells differences where there are none: {told[:3]}")
        if self.usage != self.kind.zero(self.usage):
            _expect(bool(self.kind.diffs(self.usage, [])), "it tells no difference although no workload is left")

    def realloc(self) -> None:
        """calculate-realloc with nothing to change keeps usage as it is"""
        result = self.kind.reallot(self.capacity, self.usage, self._grants()[0], {})
        _expect(result.usage == self.usage, f"usage was {_shown(self.usage)} and became {_shown(result.usage)}")

    def remap(self) -> None:
        """calculate-remap answers a map of engine parameters"""
        self.kind.remap(self.capacity, self.usage, {"workload": self._grants()[0]})

    def give_back(self) -> None:
        """set-node-resource-usage takes the shares away again, down to nothing"""
        self.usage = self.kind.subtract(self.usage, self._grants())
        empty = self.kind.zero(self.usage)
        _expect(self.usage == empty, f"usage is {_shown(self.usage)} instead of {_shown(empty)}")

    def grow(self) -> None:
        """set-node-resource-capacity replaces the capacity"""
        capacity, _ = self.kind.node_changed(self.capacity, self.usage, self.node_bag, delta=False)
        _expect(capacity.keys() == self.capacity.keys(), f"the capacity became {_shown(capacity)}")

    def metrics(self) -> None:
        """get-metrics-description and get-metrics fit together"""
        gauges = self.kind.gauges("eru-check-pod", NODENAME, self.capacity, self.usage)
        described = self.kind.program.call("get-metrics-description", {}) or []
        names = {one["name"] for one in described}
        for gauge in gauges:
            _expect(gauge.name in names, f"{gauge.name} is not described")

    def nonsense(self) -> None:
        """an unknown node is an error, not a crash of another node's record"""
        stranger = ExternalKind(replace(self.kind.program))
        try:
            stranger.program.call(
                "calculate-deploy",
                {"nodename": "eru-check-nobody", "deploy_count": 1, "workload_resource_request": None},
            )
        except EruError:
            return
        raise _Wrong("calculate-deploy on a node that was never added succeeded: exit with a code other than 0")

    def _grants(self) -> list[Record]:
        _expect(bool(self.allotments), "there is no share to try it with")
        return [allotment.grant for allotment in self.allotments]


def _expect(right: bool, wrong: str) -> None:
    if not right:
        raise _Wrong(wrong)


def _shown(record: Record) -> str:
    return str({key: value for key, value in record.items() if key != NODE})
