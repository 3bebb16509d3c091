"""Deploy: look, measure, decide, reserve, act, record, tell, settle.

Nothing is done on a node before its intent is in the store; nothing is told
before it is recorded. Whatever fails is taken back here and now if the
outcome of each step is known, else its intent stays and recovery settles it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

import structlog

from eru.core.accounts import Requests, parse_requests
from eru.core.app import Core
from eru.core.groups import open_group
from eru.core.ledger import Held, Operation
from eru.core.ops.instance import Maker
from eru.core.ops.reserve import Placed, Reservation, unwrapped
from eru.core.ops.together import Made, Together, given_up
from eru.core.results import stream
from eru.core.specs import Instance, check_deploy
from eru.engine.contract import Engine
from eru.lib.tasks import shielded
from eru.lib.undo import UndoStack
from eru.model.deploy import DeploySpec
from eru.model.errors import EruError, NoCapacity, OutcomeUnknown, Refused
from eru.model.intents import Intent
from eru.model.nodes import Resources
from eru.model.results import Deployed
from eru.model.workloads import Workload

_log = structlog.get_logger(__name__)

Tell = Callable[[Deployed], None]
Gate = AbstractAsyncContextManager[None]
_OPEN: Gate = nullcontext()


def _gate(many: int, limit: int) -> Gate:
    """Lets `limit` through at a time; nothing to wait for when there are no more than that."""
    return asyncio.Semaphore(limit) if many > limit else _OPEN


def deploy(core: Core, spec: DeploySpec) -> AsyncGenerator[Deployed, None]:
    """One result per instance in completion order, or exactly one with only an error when nothing can be placed.

    A resource request that makes no sense is such a refusal too. Raises InvalidInput at once for a request that
    is wrong in itself.
    """
    core.check_accepting()
    try:
        check_deploy(spec, core.settings)
    except Refused as error:
        return refused(error)
    try:
        requests = parse_requests(core.kinds, spec.resources)
    except EruError as error:
        return refused(error)
    return stream(core.background, f"deploy {spec.app}", lambda tell: _deploy(core, spec, requests, tell))


async def refused(error: EruError) -> AsyncGenerator[Deployed, None]:
    """The one result of a deploy that was not even begun."""
    yield Deployed(error=error)


async def _deploy(core: Core, spec: DeploySpec, requests: Requests, tell: Tell) -> None:
    async with core.operation("deploy") as op:
        await Deploy(core, op, spec, requests, tell).run()


@dataclass(slots=True)
class Deploy:
    """One deploy under way. `keep` makes the intent that stays after the record (lambda)."""

    core: Core
    op: Operation
    spec: DeploySpec
    requests: Requests
    tell: Tell
    keep: Callable[[Placed, Workload], Intent] | None = None
    recorded: list[Made] = field(default_factory=list)
    _together: Together | None = None
    _gate: Gate = field(init=False)
    _maker: Maker = field(init=False)

    def __post_init__(self) -> None:
        self._maker = Maker(self.core, self.op, self.spec)
        self._gate = _OPEN

    async def run(self) -> None:
        """Everything; results go to `tell`."""
        reservation = Reservation(self.core, self.op, self.spec, self.requests)
        try:
            if self.spec.all_or_nothing and self.keep is None:
                self._together = Together(self.core, self.op, await open_group(self.core, self.op))
            await self._act(await reservation.run())
        except (BaseExceptionGroup, EruError) as error:
            cause = unwrapped(error)
            if not isinstance(cause, EruError):
                raise cause from None
            await shielded(self._give_back(reservation.placed))
            refusals = cause.refusals if isinstance(cause, NoCapacity) else []
            events, spec = self.core.events, self.spec
            events.tell("refused", app=spec.app, entrypoint=spec.entrypoint.name, error=cause)
            self.tell(Deployed(error=cause, refusals=refusals))
        finally:
            if not all(one.settled for one in reservation.placed):
                await shielded(self._give_back(reservation.placed))
            if self._together is not None:
                await shielded(self._together.close())
            self._settle()

    # Act.

    async def _act(self, placed: list[Placed]) -> None:
        if self._together is not None:
            self._together.total = len(placed)
        self._gate = _gate(len(placed), self.core.settings.engine_parallel_max)
        by_node: dict[str, list[Placed]] = {}
        for one in placed:
            by_node.setdefault(one.nodename, []).append(one)
            self.core.events.tell("planned", name=one.name, node=one.nodename, detail=f"instance {one.sequence}")
        if len(by_node) == 1:
            await self._act_on(*by_node.popitem())
        else:
            async with asyncio.TaskGroup() as group:
                for nodename, ours in by_node.items():
                    group.create_task(self._act_on(nodename, ours))

    async def _act_on(self, nodename: str, ours: list[Placed]) -> None:
        core = self.core
        try:
            engine = await core.engine_for(nodename)
            if not self.spec.ignore_pull:
                await core.images.ensure(nodename, engine, self.spec.image, self.spec.app, self.spec.entrypoint.name)
        except EruError as error:
            for one in ours:
                await self._fail(one, error)
            return
        node_gate = _gate(len(ours), core.settings.engine_node_parallel_max)
        if len(ours) == 1:
            await self._instance(engine, ours[0], node_gate)
            return
        async with asyncio.TaskGroup() as group:
            for one in ours:
                group.create_task(self._instance(engine, one, node_gate))

    async def _instance(self, engine: Engine, one: Placed, node_gate: Gate) -> None:
        """One instance from create to record; errors become its result."""
        try:
            async with UndoStack() as undo:
                async with node_gate, self._gate:
                    if self._together is not None and self._together.failed:
                        raise given_up()
                    made = await self._make(engine, one, undo)
                if self._together is not None:
                    await self._together.wait(made, undo, lambda: self._leave(one))
                await self._record(made, undo)
        except EruError as error:
            await self._fail(one, error)

    async def _make(self, engine: Engine, one: Placed, undo: UndoStack) -> Made:
        instance = Instance(
            one.name,
            self._podname(one),
            one.nodename,
            one.sequence,
            one.reserved.grant,
            one.reserved.params,
        )
        workload, result = await self._maker.make(engine, instance, undo, lambda: self._leave(one))
        return Made(one, workload, result)

    def _podname(self, one: Placed) -> str:
        """The pod that was asked for, or else the node's own."""
        if self.spec.nodes.podname:
            return self.spec.nodes.podname
        found = self.core.fleet.view.by_name.get(one.nodename)
        return found.node.podname if found is not None and found.node is not None else ""

    # Record.

    async def _record(self, made: Made, undo: UndoStack) -> None:
        """Not cut off half-way: who is cancelled meanwhile learns first whether it is recorded."""
        core, one = self.core, made.placed
        held = one.reserved.held
        keep = self.keep(one, made.workload) if self.keep else None
        change = core.ledger.recording(self.op, held, made.workload, keep=keep)
        try:
            await core.committer.commit(change)
        except asyncio.CancelledError:
            if not change.revision:
                self._leave(one)
                undo.forget()  # recovery finds out
            raise
        except OutcomeUnknown as error:
            self._leave(one)
            if self._together is not None:
                self._made(made)
                return
            undo.forget()  # it may be recorded: recovery removes it if it is not
            raise OutcomeUnknown(f"{one.name} on {one.nodename} runs, but {error}") from error
        except EruError as error:
            if self._together is None:
                raise
            self._leave(one)  # it is decided that it is to be: recovery records it
            _log.info("recorded later", workload=one.name, error=str(error))
            self._made(made)
            return
        finally:
            if change.revision:
                made.held = Held(held.key, keep, change.revision) if keep else None
                self._recorded(made, undo)

    def _recorded(self, made: Made, undo: UndoStack) -> None:
        undo.forget()
        made.placed.settled = True
        self.core.events.tell("recorded", name=made.placed.name, id=made.workload.id, node=made.placed.nodename)
        self.recorded.append(made)
        self._made(made)

    def _made(self, made: Made) -> None:
        self.core.deployed += 1
        self.tell(made.result)

    # Take back.

    async def _fail(self, one: Placed, error: EruError) -> None:
        if self._together is not None:
            self._together.fail()
        self.core.events.tell("failed", name=one.name, node=one.nodename, error=error)
        await shielded(self._give_back([one]))
        result = Deployed(
            podname=self._podname(one),
            nodename=one.nodename,
            name=one.name,
            resources=one.reserved.grant,
            hook=self._maker.outputs.pop(one.name, b""),
            error=error,
        )
        self.tell(result)

    async def _give_back(self, placed: list[Placed]) -> None:
        """Release what was reserved and will not be used; what cannot be released now is left to recovery."""
        ours = [one for one in placed if not one.settled]

        async def release(one: Placed) -> None:
            one.settled = True
            try:
                await self.core.ledger.release(self.op, one.reserved.held)
                self.core.events.tell("released", name=one.name, node=one.nodename)
            except EruError as error:
                self.op.left_behind = True
                _log.info("grant is given back later", workload=one.name, error=str(error))

        await asyncio.gather(*(release(one) for one in ours))

    def _leave(self, one: Placed) -> None:
        """Recovery finds out what became of it."""
        one.settled = True
        self.op.left_behind = True

    def _settle(self) -> None:
        """What follows from the new grants, in the background."""
        by_node: dict[str, dict[str, Resources]] = {}
        for made in self.recorded:
            by_node.setdefault(made.placed.nodename, {})[made.workload.id] = made.workload.grant
        for nodename, workloads in by_node.items():
            self.core.remapper.created(nodename, workloads)
