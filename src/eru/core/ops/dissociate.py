"""Dissociate: forget workloads that go on running; their grants are free again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from eru.core.app import Core
from eru.core.ledger import Operation
from eru.core.results import stream
from eru.lib.tasks import map_bounded
from eru.model.errors import Conflict, EruError, InvalidInput
from eru.model.results import Dissociated

_PARALLEL_MAX = 64


def dissociate(core: Core, ids: Sequence[str]) -> AsyncGenerator[Dissociated, None]:
    """One result per id. Raises InvalidInput without ids; NotFound when one is unknown."""
    core.check_accepting()
    if not ids:
        raise InvalidInput("no workload IDs given")
    unique = list(dict.fromkeys(ids))
    return stream(core.background, f"dissociate {len(unique)}", lambda tell: _dissociate(core, unique, tell))


async def _dissociate(core: Core, ids: Sequence[str], tell: Callable[[Dissociated], None]) -> None:
    await core.workloads(ids)

    async def one(id: str) -> None:
        try:
            await _forget(core, op, id)
            tell(Dissociated(id=id))
        except EruError as error:
            tell(Dissociated(id=id, error=error))

    async with core.operation("dissociate") as op:
        await map_bounded(ids, one, _PARALLEL_MAX)


async def _forget(core: Core, op: Operation, id: str) -> None:
    clock = core.world.clock
    until = clock.monotonic() + core.settings.hold_wait_s
    while True:
        stored = (await core.workloads([id]))[0]
        workload = stored.workload
        try:
            await core.ledger.dissociate(op, stored)
        except Conflict:
            if await core.recovery.give_up(workload.nodename, workload.name):
                continue
            if clock.monotonic() >= until:
                raise
            await core.fleet.intent_gone(workload.nodename, workload.name, 1.0)
            await clock.sleep(core.world.jitter(0.02, 0.5))
        else:
            core.events.about("released", workload, "dissociated: it goes on without being known here")
            core.remapper.removed(workload.nodename, [workload.grant])
            return
