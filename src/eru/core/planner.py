"""Look, measure, decide: from the live view and a request to instances per node. No I/O, no waiting.

What was decided and is not reserved yet is kept in `View.pending`, so that
plans made at the same moment in this core do not pile up on the same nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eru.core.accounts import Requests
from eru.core.view import NodeView, Rows, View
from eru.model.deploy import DeploySpec, NodeFilter
from eru.model.errors import NoCapacity, NotFound
from eru.model.refusals import Reason, Refusal
from eru.plan.contract import Candidates
from eru.plan.merge import merge
from eru.plan.place import plan
from eru.resource.contract import Measure

REFUSALS_MAX = 1_000  # nodes that are explained in one answer

Answers = dict[str, tuple[Rows, Measure]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be placed: of a whole request, or what a lost race left of it."""

    spec: DeploySpec
    requests: Requests
    count: int
    nodes_limit: int
    excludes: frozenset[str] = frozenset()
    answers: Answers = field(default_factory=dict)  # of kinds that take long, asked before: see `Planner.warm`


@dataclass(frozen=True, slots=True)
class Decision:
    """`rows[i]` gets `counts[i]` instances (0: only looked after, by FILL)."""

    rows: Rows
    counts: NDArray[np.int64]
    considered: int

    @property
    def total(self) -> int:
        return int(self.counts.sum())


@dataclass(slots=True)
class Planner:
    """See the module."""

    view: View
    unsettled: int = field(default=0)  # plans whose reservations are under way

    def select(self, filter: NodeFilter, excludes: frozenset[str] = frozenset()) -> Rows:
        """Rows that may be used, in name order. Raises NotFound for a named node that does not exist."""
        out = excludes | frozenset(filter.excludes)
        if filter.includes:
            names = sorted(set(filter.includes) - out)
            return np.array([self._named(name).row for name in names], np.int64)
        return self.view.rows_up(filter.podname, filter.labels, out)

    def measure(
        self, app: str, entrypoint: str, rows: Rows, requests: Requests, answers: Answers | None = None
    ) -> Candidates:
        """What every kind says of the rows, merged; what is planned and not reserved yet counts as used."""
        view = self.view
        known = answers or {}
        measures = [
            _picked(*known[name], rows) if name in known else table.measure(requests[name], rows)
            for name, table in view.tables.items()
        ]
        merged = merge(rows, measures, view.count_array(app, entrypoint, rows))
        if not self.unsettled:
            return merged
        pending = view.pending.take(rows)
        if not np.count_nonzero(pending):
            return merged
        return replace(
            merged,
            capacity=np.maximum(merged.capacity - pending, 0),
            usage=merged.usage + merged.rate * pending,
        )

    def decide(self, wish: Wish) -> Decision:
        """The plan. Raises NoCapacity or Refused with the strategy's sentence."""
        spec = wish.spec
        rows = self.select(spec.nodes, wish.excludes)
        if not len(rows):
            raise NoCapacity(self._nobody(spec.nodes))
        candidates = self.measure(spec.app, spec.entrypoint.name, rows, wish.requests, wish.answers)
        counts = plan(candidates, spec.strategy, wish.count, wish.nodes_limit)
        chosen = counts.nonzero()[0]
        return Decision(rows[chosen], counts[chosen], len(rows))

    @contextmanager
    def hold(self, wish: Wish, decision: Decision) -> Iterator[None]:
        """Let other plans of this core see the decision until it is reserved, or not."""
        view = self.view
        app, entrypoint = wish.spec.app, wish.spec.entrypoint.name
        held = list(zip(decision.rows.tolist(), decision.counts.tolist(), strict=True))
        for row, many in held:
            view.plan(app, entrypoint, row, many)
        self.unsettled += 1
        try:
            yield
        finally:
            self.unsettled -= 1
            for row, many in held:
                view.plan(app, entrypoint, row, -many)

    def changing_since(self, filter: NodeFilter, revision: int) -> list[str]:
        """Names of usable nodes that have changed after `revision`, or are just being reserved on."""
        rows = self.select(filter)
        changing = (self.view.changed_at[rows] > revision) | (self.view.pending[rows] > 0)
        return [self.view.name_of(row) for row in rows[changing].tolist()]

    @property
    def blocking(self) -> bool:
        """Whether any kind may take long to answer."""
        return any(kind.blocking for kind in self.view.kinds.values())

    async def warm(self, wish: Wish) -> Wish:
        """The wish with what the kinds that may take long say, asked in a thread.

        What changes while they are asked is compared when it is reserved; nodes that come meanwhile take nothing yet.
        """
        answers: Answers = {}
        for name, kind in self.view.kinds.items():
            if kind.blocking:
                rows = self.select(wish.spec.nodes, wish.excludes)
                answers[name] = rows, await asyncio.to_thread(self.view.tables[name].measure, wish.requests[name], rows)
        return replace(wish, answers=answers) if answers else wish

    # Explaining.

    def refusals(self, wish: Wish) -> tuple[list[Refusal], int]:
        """Why each node of the pod (or each named one) takes no further instance, and how many these are in all."""
        spec = wish.spec
        meant = self._meant(spec.nodes)
        return [self._refusal(node, spec.nodes, wish.requests) for node in meant[:REFUSALS_MAX]], len(meant)

    def _meant(self, filter: NodeFilter) -> list[NodeView]:
        if filter.includes:
            return [self._named(name) for name in sorted(set(filter.includes))]
        return list(self.view.nodes(filter.podname))

    def _refusal(self, found: NodeView, filter: NodeFilter, requests: Requests) -> Refusal:
        name, node = found.name, found.node
        if name in filter.excludes:
            return Refusal(nodename=name, reason=Reason.EXCLUDED)
        if node is not None and not filter.includes:
            for label, value in filter.labels.items():
                if node.labels.get(label) != value:
                    has = node.labels.get(label)
                    detail = f"{label}={value} wanted, " + (f"has {label}={has}" if has is not None else "has none")
                    return Refusal(nodename=name, reason=Reason.LABEL, detail=detail)
            if node.bypass:
                return Refusal(nodename=name, reason=Reason.BYPASS, detail="taken out of scheduling by its operator")
            if not found.available:
                return Refusal(
                    nodename=name, reason=Reason.DOWN, detail="its heartbeat is missing: is its agent running?"
                )
        for kind, rule in self.view.kinds.items():
            short = rule.explain(name, found.capacity.get(kind, {}), found.usage.get(kind, {}), requests[kind])
            if short is not None:
                return short
        return Refusal(nodename=name, reason=Reason.LIMIT, detail="has room, but not for what is asked in all")

    def _named(self, name: str) -> NodeView:
        found = self.view.by_name.get(name)
        if found is None or not found.complete:
            raise NotFound(f"node {name!r} does not exist")
        return found

    def _nobody(self, filter: NodeFilter) -> str:
        if filter.podname and filter.podname not in self.view.pods and not filter.includes:
            return f"node map is empty: pod {filter.podname!r} does not exist"
        where = f"pod {filter.podname!r}" if filter.podname else "the cluster"
        return f"node map is empty: no node of {where} is up and fits the filter"


def _picked(asked: Rows, said: Measure, rows: Rows) -> Measure:
    """Of what was said of the rows `asked`, that of `rows`; one that was not asked takes nothing."""
    if not len(asked):
        nothing = np.zeros(len(rows), np.int64)
        return Measure(nothing, nothing.astype(np.float64), nothing.astype(np.float64), said.weight)
    place = np.full(int(max(asked.max(), rows.max(initial=0))) + 1, -1, np.int64)
    place[asked] = np.arange(len(asked))
    at = place[rows]
    capacity = np.where(at >= 0, said.capacity[at], 0)
    return Measure(capacity, said.usage[at], said.rate[at], said.weight)


def request_of(spec: DeploySpec, requests: dict[str, Any]) -> Wish:
    """The whole request as one wish."""
    return Wish(spec, requests, spec.count, spec.nodes_limit)
