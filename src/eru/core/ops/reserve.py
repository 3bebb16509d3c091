"""The first half of a deploy: decide, reserve, and where a race was lost decide again for just that part."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from eru.core.accounts import Requests
from eru.core.app import Core
from eru.core.ledger import RESERVE_MAX, Operation, Reserved
from eru.core.planner import Decision, Planner, Wish
from eru.core.reasons import explained
from eru.model.deploy import DeploySpec, Strategy
from eru.model.errors import Conflict, EruError, NoCapacity, NotFound, Refused
from eru.model.names import IDENT_LENGTH, workload_name

_SETTLE_STEP_S = 0.005
_SETTLE_MOST_S = 10.0


@dataclass(slots=True)
class Placed:
    """One instance with everything about it decided and its grant reserved."""

    nodename: str
    sequence: int
    reserved: Reserved
    settled: bool = False  # recorded, released or left to recovery

    @property
    def name(self) -> str:
        return self.reserved.held.intent.name


@dataclass(slots=True)
class Reservation:
    """Reserves a whole request, or nothing (what is left is swept)."""

    core: Core
    op: Operation
    spec: DeploySpec
    requests: Requests
    placed: list[Placed] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)
    _returned: list[int] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    async def run(self) -> list[Placed]:
        """All instances, reserved. Raises NoCapacity, Refused, NotFound, Conflict, StoreError.

        Whatever had been reserved before an error is in `placed`.
        """
        if self.spec.if_revision:
            await self._check_revision()
        missing: dict[str, int] = {}
        for _ in range(self.core.settings.replan_rounds_max):
            if self._counted:
                await self.core.fleet.fresh()
            wish = self._wish(missing)
            decision = await self._decide(wish)
            if decision is None:
                return self.placed
            as_of = self.spec.if_revision or (self.core.fleet.revision if self._counted else 0)
            with self.core.planner.hold(wish, decision):
                missing = await self._reserve(decision, as_of)
            if not missing:
                return self.placed
            if self.spec.if_revision:
                raise Conflict(_changed(self.spec.if_revision, sorted(missing)))
        raise Conflict(
            f"lost the race for capacity {self.core.settings.replan_rounds_max} times in a row: "
            f"{sum(missing.values())} instances are still without a place; try again"
        )

    @property
    def _counted(self) -> bool:
        """Whether the plan promises how many there are on a node: what others put there meanwhile then matters."""
        strategy = self.spec.strategy
        return strategy is Strategy.FILL or (strategy is Strategy.AUTO and self.spec.nodes_limit > 0)

    async def _check_revision(self) -> None:
        wanted = self.spec.if_revision
        await self.core.fleet.caught_up(wanted)
        if changed := self.core.planner.changing_since(self.spec.nodes, wanted):
            raise Conflict(_changed(wanted, changed))

    def _wish(self, missing: dict[str, int]) -> Wish:
        """The whole request at first; after a lost race what is missing of it."""
        whole = Wish(self.spec, self.requests, self.spec.count, self.spec.nodes_limit)
        if not missing:
            return whole
        match self.spec.strategy:
            case Strategy.FILL:
                return whole  # what is reserved counts as present
            case Strategy.EACH:
                done = frozenset(placed.nodename for placed in self.placed)
                return replace(whole, nodes_limit=len(missing), excludes=done)
            case _:
                return replace(whole, count=sum(missing.values()))

    async def _decide(self, wish: Wish) -> Decision | None:
        """The plan; None when a FILL turns out to be complete by now.

        A refusal is only given from a view that is as new as the store, while
        no other plan of this core is half reserved.
        """
        planner = self.core.planner
        try:
            if planner.blocking:
                wish = await planner.warm(wish)
            return planner.decide(wish)
        except (NoCapacity, NotFound, Refused):
            await self.core.fleet.fresh()
            await settled(self.core, planner)
        try:
            if planner.blocking:
                wish = await planner.warm(wish)
            return planner.decide(wish)
        except Refused as error:
            if self.placed and self.spec.strategy is Strategy.FILL and not isinstance(error, NoCapacity):
                return None
            raise await explained(error, planner, wish) from None

    async def _reserve(self, decision: Decision, as_of: int) -> dict[str, int]:
        """Reserve on all planned nodes at once; node -> instances that found no room after all.

        `as_of`: nodes that have changed since that revision take nothing, unless it is 0.
        """
        view = self.core.fleet.view
        missing: dict[str, int] = {}
        if len(decision.rows) == 1 and decision.total <= RESERVE_MAX:  # nothing to do side by side: no task
            numbers = [self._number() for _ in range(decision.total)]
            await self._reserve_on(view.name_of(int(decision.rows[0])), numbers, missing, as_of)
            return missing
        async with asyncio.TaskGroup() as group:
            for row, many in zip(decision.rows.tolist(), decision.counts.tolist(), strict=True):
                nodename = view.name_of(row)
                numbers = [self._number() for _ in range(many)]
                parts = [numbers[start : start + RESERVE_MAX] for start in range(0, many, RESERVE_MAX)]
                if as_of:
                    group.create_task(self._reserve_in_turn(nodename, parts, missing, as_of))
                    continue
                for part in parts:
                    group.create_task(self._reserve_on(nodename, part, missing))
        return missing

    async def _reserve_in_turn(
        self, nodename: str, parts: Sequence[Sequence[int]], missing: dict[str, int], as_of: int
    ) -> None:
        """One part after the other: each is a change of the node that the next one has to know of."""
        for part in parts:
            as_of = await self._reserve_on(nodename, part, missing, as_of)

    async def _reserve_on(self, nodename: str, numbers: Sequence[int], missing: dict[str, int], as_of: int = 0) -> int:
        """The revision that the node is known at afterwards, for the next part with `as_of`."""
        core = self.core
        names = [self._name() for _ in numbers]
        try:
            reserved = await core.ledger.reserve(
                self.op, self.spec.nodes.podname, nodename, names, self.requests, as_of
            )
        except (NoCapacity, NotFound, Conflict):
            missing[nodename] = missing.get(nodename, 0) + len(numbers)
            for number in numbers:
                heapq.heappush(self._returned, number)
            return as_of
        except BaseException:
            self.op.left_behind = True
            raise
        self.placed.extend(Placed(nodename, number, one) for number, one in zip(numbers, reserved, strict=True))
        return max(one.held.revision for one in reserved)

    def _number(self) -> int:
        return heapq.heappop(self._returned) if self._returned else next(self._numbers)

    def _name(self) -> str:
        while True:
            ident = self.core.world.letters(IDENT_LENGTH)
            if ident not in self._names:
                self._names.add(ident)
                return workload_name(self.spec.app, self.spec.entrypoint.name, ident)


def _changed(revision: int, names: Sequence[str]) -> str:
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"the cluster has changed since revision {revision}: {some}; make a new plan"


async def settled(core: Core, planner: Planner) -> None:
    """Wait a moment for the plans of this core that are being reserved right now."""
    clock = core.world.clock
    until = clock.monotonic() + _SETTLE_MOST_S
    while planner.unsettled and clock.monotonic() < until:
        await clock.sleep(_SETTLE_STEP_S)


def unwrapped(error: BaseException) -> BaseException:
    """The first real error inside (nested) exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = next((inner for inner in error.exceptions if not isinstance(inner, EruError)), error.exceptions[0])
    return error
