"""Remove: the engine object goes first, then record, indexes, status and grant in one transaction.

The intent that is left before tells any core how to finish. Without `force`
an engine refuses to remove a workload that runs; then nothing has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence

from eru.core.app import Core
from eru.core.calls import bounded
from eru.core.ledger import Held, Operation, StoredWorkload
from eru.core.results import stream
from eru.lib.tasks import shielded
from eru.model.errors import (
    Conflict,
    EngineMissing,
    EngineRefused,
    EngineUnreachable,
    EruError,
    InvalidInput,
    LeaseLost,
    NotFound,
    NotSupported,
    Refused,
)
from eru.model.intents import Verb
from eru.model.results import Removed

_PARALLEL_MAX = 256  # workloads of one request at a time


def remove(core: Core, ids: Sequence[str], *, force: bool = False) -> AsyncGenerator[Removed, None]:
    """One result per id, in completion order. Raises InvalidInput without ids; NotFound when one is unknown."""
    core.check_accepting()
    if not ids:
        raise InvalidInput("no workload IDs given")
    unique = list(dict.fromkeys(ids))
    return stream(core.background, f"remove {len(unique)}", lambda tell: _remove(core, unique, force, tell))


async def _remove(core: Core, ids: Sequence[str], force: bool, tell: Callable[[Removed], None]) -> None:
    await core.workloads(ids)
    gate = asyncio.Semaphore(_PARALLEL_MAX)

    async def one(op: Operation, id: str) -> None:
        async with gate:
            try:
                await shielded(remove_recorded(core, op, id, force=force))
                tell(Removed(id=id))
            except EruError as error:
                core.events.tell("failed", id=id, name=core.events.name_of(id), detail="remove", error=error)
                tell(Removed(id=id, error=error))

    async with core.operation("remove") as op, asyncio.TaskGroup() as group:
        for id in ids:
            group.create_task(one(op, id))


async def remove_recorded(core: Core, op: Operation, id: str, *, force: bool) -> None:
    """Remove one workload; returns when nothing is left of it.

    Raises EngineRefused when it runs and `force` is not given; NotFound;
    Conflict when another operation does not let go of it.
    """
    held, stored = await hold(core, op, id, Verb.REMOVE, force=force)
    was_lambda = held.intent.deadline > 0
    await finish_remove(core, op, held, stored, force=force, give_up=not was_lambda)


async def finish_remove(
    core: Core, op: Operation, held: Held, stored: StoredWorkload, *, force: bool, give_up: bool = True
) -> None:
    """From an intent in the store to the end of it.

    `give_up`: an engine that does not answer ends it, and the workload stays;
    else recovery goes on until it is removed.
    """
    workload = stored.workload
    try:
        op.identity.check()
        engine = await core.engine_for(workload.nodename)
        with contextlib.suppress(EngineMissing):
            await bounded(engine.remove(workload.id, force=force), core.settings.engine_slow_call_s, "remove")
    except EngineRefused:
        if force:
            op.left_behind = True  # an engine also refuses while it is busy removing: recovery finishes it
        else:
            await release_hold(core, op, held)
        raise
    except (EngineUnreachable, NotSupported, NotFound, LeaseLost):
        if give_up:
            await release_hold(core, op, held)
        else:
            op.left_behind = True
        raise
    except BaseException:
        op.left_behind = True  # done or not: recovery finishes it
        raise
    try:
        await core.ledger.erase(op, held, workload)
    except BaseException:
        op.left_behind = True
        raise
    core.events.about("removed", workload)
    core.remapper.removed(workload.nodename, [workload.grant])


async def hold(core: Core, op: Operation, id: str, verb: Verb, **note: object) -> tuple[Held, StoredWorkload]:
    """Leave an intent on a workload, waiting a while for another operation to let go of it.

    Raises NotFound, Conflict.
    """
    clock = core.world.clock
    until = clock.monotonic() + core.settings.hold_wait_s
    while True:
        stored = (await core.workloads([id]))[0]
        workload = stored.workload
        try:
            if verb is Verb.REMOVE and (running := lambda_of(core, stored)) is not None:
                if not note.get("force"):
                    raise Refused(f"workload {id} is a lambda that removes itself; remove it now with force")
                return await core.ledger.amend(op, running, verb=verb, **note), stored
            return await core.ledger.take(op, stored, verb, **note), stored
        except Conflict:
            if (left := until - clock.monotonic()) <= 0:
                raise
        except BaseException:
            op.left_behind = True
            raise
        await core.fleet.intent_gone(workload.nodename, workload.name, min(left, 1.0))
        await clock.sleep(core.world.jitter(0.02, 0.5))


def lambda_of(core: Core, stored: StoredWorkload) -> Held | None:
    """The intent of a lambda that runs: whoever removes the workload takes it over."""
    workload = stored.workload
    found = core.fleet.view.intents.get(core.keys.intent(workload.nodename, workload.name))
    if found is None or found.intent.verb is not Verb.LAMBDA or found.intent.counted:
        return None
    return Held(found.key, found.intent, found.revision)


async def release_hold(core: Core, op: Operation, held: Held) -> None:
    """Take an intent back; where that fails recovery does it."""
    try:
        await core.ledger.drop(op, held)
    except EruError:
        op.left_behind = True
