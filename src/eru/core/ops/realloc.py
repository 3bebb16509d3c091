"""Realloc: change one workload's resources while it runs; where the engine refuses, everything is as before."""

from __future__ import annotations

from eru.core.app import Core
from eru.core.ledger import Held, Operation, StoredWorkload
from eru.core.reasons import on_node
from eru.core.recovery import update_engine
from eru.engine.contract import Capability, Engine
from eru.lib.tasks import shielded
from eru.model.errors import (
    Conflict,
    EngineError,
    EngineOutcomeUnknown,
    EruError,
    InvalidInput,
    NoCapacity,
    NotSupported,
)
from eru.model.nodes import Resources
from eru.model.workloads import Workload


async def realloc(core: Core, id: str, bags: Resources) -> StoredWorkload:
    """The workload with its new resources; `bags` are increments per resource kind.

    Raises InvalidInput, NotFound, NoCapacity, NotSupported, Conflict,
    EngineError: then the old resources hold, or will as soon as the engine
    answers again.
    """
    core.check_accepting()
    if not id:
        raise InvalidInput("workload ID is empty")
    async with core.operation("realloc") as op:
        return await shielded(_realloc(core, op, id, bags))


async def _realloc(core: Core, op: Operation, id: str, bags: Resources) -> StoredWorkload:
    before = (await core.workloads([id]))[0].workload
    await core.fleet.node_surely(before.nodename)
    engine = await core.engine_for(before.nodename)
    if Capability.LIVE_UPDATE not in engine.capabilities:
        raise NotSupported(
            f"engine {engine.type} of node {before.nodename} cannot realloc: it has no {Capability.LIVE_UPDATE.value}"
        )
    held, after = await _reallot(core, op, id, bags)
    try:
        op.identity.check()
        await _update(core, engine, after)
    except EruError as error:
        await _take_back(core, op, engine, held, after, known=not isinstance(error, EngineOutcomeUnknown))
        raise
    except BaseException:
        op.left_behind = True
        raise
    await _let_go(core, op, held)
    nodename = after.workload.nodename
    core.events.about("resized", before, _difference(before, after.workload))
    core.remapper.removed(nodename, [before.grant])
    core.remapper.created(nodename, {id: after.workload.grant})
    return after


async def _reallot(core: Core, op: Operation, id: str, bags: Resources) -> tuple[Held, StoredWorkload]:
    clock = core.world.clock
    until = clock.monotonic() + core.settings.hold_wait_s
    while True:
        stored = (await core.workloads([id]))[0]
        workload = stored.workload
        try:
            return await core.ledger.reallot(op, stored, bags)
        except Conflict:
            if clock.monotonic() >= until:
                raise
        except NoCapacity as error:
            op.left_behind = True
            raise on_node(error, workload.nodename) from None
        except BaseException:
            op.left_behind = True
            raise
        await core.fleet.intent_gone(workload.nodename, workload.name, 1.0)
        await clock.sleep(core.world.jitter(0.02, 0.5))


async def _take_back(
    core: Core, op: Operation, engine: Engine, held: Held, after: StoredWorkload, *, known: bool
) -> None:
    """The old grant again. `known`: the engine has surely kept the old limits."""
    try:
        held, old = await core.ledger.restore(op, held, after)
        if not known:
            await _update(core, engine, old)
    except EruError:
        op.left_behind = True  # recovery brings engine and record together
        return
    await _let_go(core, op, held)


async def _update(core: Core, engine: Engine, stored: StoredWorkload) -> None:
    try:
        await update_engine(core, engine, stored.workload)
    except TimeoutError:
        limit_s = core.settings.engine_call_s
        raise EngineOutcomeUnknown(f"update of workload {stored.id} was not answered within {limit_s:g} s") from None
    except EngineError:
        raise


async def _let_go(core: Core, op: Operation, held: Held) -> None:
    try:
        await core.ledger.drop(op, held)
    except EruError:
        op.left_behind = True


def _difference(before: Workload, after: Workload) -> str:
    """What the new grant changes, as `cpumem: memory_request 67108864 to 134217728`."""
    told = []
    for kind, grant in after.grant.items():
        old = before.grant.get(kind, {})
        changes = [f"{what} {old.get(what)} to {value}" for what, value in grant.items() if old.get(what) != value]
        if changes:
            told.append(f"{kind}: {', '.join(changes)}")
    return "; ".join(told)
