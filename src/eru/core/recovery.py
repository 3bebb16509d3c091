"""Finishes or takes back what was left behind: intents whose owner is gone, or whose operation has ended.

Every core looks; whoever claims an intent first (a transaction that compares
that its owner is not registered) works on it. All steps can be repeated, so a
sweeper may itself die at any point and be swept.

deploy    remove the engine object of that name, give the grant back; or record it, if its group is committed
lambda    let it run to its end, for a while, then remove it
remove    remove the engine object, then the record (or only the intent, where the engine refuses)
replace   remove the new one, which was never recorded; the old one runs again
realloc   give the engine what the record says; where it refuses, go back to the old grant
restart   stop it if it runs (that stop may still be under way), start it
"""

from __future__ import annotations

import asyncio

import structlog

from eru.core.groups import is_committed, sweep_groups
from eru.core.hooks import run_hooks
from eru.core.ledger import Held, Operation, StoredWorkload
from eru.core.parts import Parts
from eru.engine.contract import Engine, Inspection
from eru.model.errors import (
    Conflict,
    EngineMissing,
    EngineRefused,
    EruError,
    NoCapacity,
    NotFound,
    NotSupported,
)
from eru.model.intents import Verb
from eru.model.workloads import Hook, Workload

_log = structlog.get_logger(__name__)

_RETRY_FIRST_S = 1.0
_RETRY_MOST_S = 30.0
_LATE_LOOK_S = 60.0  # one more look for a create that its engine finished very late
_LATE_LOOKS_MAX = 10_000


class Recovery:
    """See the module."""

    def __init__(self, core: Parts) -> None:
        self._core = core
        self._working: set[str] = set()
        self._tries: dict[str, tuple[int, float]] = {}  # intent key -> failures so far, not before
        self._late: list[tuple[float, str, str]] = []
        self._gate = asyncio.Semaphore(core.settings.sweep_parallel_max)
        self.swept = 0

    def wake(self) -> None:
        """Something was left behind: look soon."""
        self._core.left_behind.set()

    async def run(self) -> None:
        """Look whenever a core went away, an operation left something, and now and then. Runs for ever."""
        core = self._core
        while True:
            for key in self._orphans():
                self._working.add(key)
                core.tasks.start(f"sweep {key}", self._sweep(key))
            await self._look_late()
            await self._sweep_groups()
            try:
                async with asyncio.timeout(core.world.jitter(self._pause_s())):
                    await core.left_behind.wait()
            except TimeoutError:
                pass
            core.left_behind.clear()

    def _pause_s(self) -> float:
        now = self._core.world.clock.monotonic()
        due = min((at for _, at in self._tries.values()), default=now + self._core.settings.recovery_every_s)
        return min(max(due - now, 0.1), self._core.settings.recovery_every_s)

    def _orphans(self) -> list[str]:
        core = self._core
        if not core.session.registered:
            return []
        now = core.world.clock.monotonic()
        own = core.session.id
        orphans = []
        for key, found in core.fleet.view.intents.items():
            intent = found.intent
            mine = intent.owner == own and intent.op not in core.active
            if key in self._working or not (mine or intent.owner not in core.fleet.view.cores):
                continue
            if intent.owner != own and intent.op in core.active:
                continue  # ours from before this core lost its registration; it is still being taken back
            if self._tries.get(key, (0, 0.0))[1] <= now:
                orphans.append(key)
        for key in [key for key in self._tries if key not in core.fleet.view.intents]:
            del self._tries[key]
        return orphans

    async def _sweep(self, key: str) -> None:
        core = self._core
        try:
            async with self._gate:
                found = core.fleet.view.intents.get(key)
                if found is None:
                    return
                async with core.operation("sweep") as op:
                    held = Held(key, found.intent, found.revision)
                    await self._settle(op, held)
                self._tries.pop(key, None)
        except Conflict:
            self._again(key)  # somebody else is at it
        except (EruError, TimeoutError) as error:
            self._again(key)
            _log.warning("left-over intent cannot be settled yet", intent=key, error=str(error))
        finally:
            self._working.discard(key)

    def _again(self, key: str) -> None:
        failures = self._tries.get(key, (0, 0.0))[0] + 1
        pause_s = min(_RETRY_FIRST_S * 2 ** min(failures - 1, 8), _RETRY_MOST_S)
        self._tries[key] = (failures, self._core.world.clock.monotonic() + self._core.world.jitter(pause_s))

    async def give_up(self, nodename: str, name: str = "") -> int:
        """Forget, on an operator's word, what could not be settled on a node without a heartbeat; how many intents.

        `name`: only that of this workload. What the engine still has stays there, as a dissociated workload does.
        """
        core = self._core
        await core.fleet.fresh()
        node = core.fleet.view.by_name.get(nodename)
        if node is None or node.node is None or node.node.test or node.heartbeat:
            return 0
        given_up = 0
        for key, found in list(core.fleet.view.intents.items()):
            intent = found.intent
            if intent.nodename != nodename or (name and intent.name != name) or key not in self._tries:
                continue  # what nobody has tried to settle may still be
            try:
                async with core.operation("give-up") as op:
                    held = await core.ledger.claim(op, Held(key, intent, found.revision))
                    if intent.group:
                        await is_committed(core, intent.group)  # closes it
                    if intent.verb is Verb.DEPLOY:
                        await core.ledger.release(op, held)
                    else:
                        await core.ledger.drop(op, held)
            except Conflict:
                continue  # somebody is at it
            given_up += 1
            why = f"left over from a lost {intent.verb.value}; its node is given up"
            core.events.tell("released", name=intent.name, id=intent.id, node=nodename, detail=why)
            _log.warning("left-over intent given up", verb=intent.verb.value, node=nodename, workload=intent.name)
        return given_up

    async def _settle(self, op: Operation, held: Held) -> None:
        core = self._core
        intent = held.intent
        node = core.fleet.view.by_name.get(intent.nodename)
        if node is None or not node.complete:
            await core.fleet.fresh()
            node = core.fleet.view.by_name.get(intent.nodename)
        if node is None or not node.complete:
            held = await core.ledger.claim(op, held)
            await core.ledger.drop(op, held)
            return
        engine = await core.engine_for(node)
        if intent.verb is Verb.LAMBDA and await self._lambda_runs(engine, held):
            self._again(held.key)
            return
        held = await core.ledger.claim(op, held)
        match intent.verb:
            case Verb.DEPLOY:
                await self._settle_deploy(op, engine, held)
            case Verb.REMOVE | Verb.LAMBDA:
                await self._finish_remove(op, engine, held)
            case Verb.REPLACE:
                await self._undo_replace(op, engine, held)
            case Verb.REALLOC:
                await self._finish_realloc(op, engine, held)
            case Verb.RESTART:
                await self._finish_restart(op, engine, held)
            case Verb.DISSOCIATE:
                await core.ledger.drop(op, held)
        self.swept += 1
        why = f"what a lost {intent.verb.value} had left is settled"
        core.events.tell("recovered", name=intent.name, id=intent.id, node=intent.nodename, detail=why)
        _log.info("left-over intent settled", verb=intent.verb.value, node=intent.nodename, workload=intent.name)

    # Verbs.

    async def _undo_create(self, engine: Engine, nodename: str, name: str) -> None:
        """Nothing of that name is left on the engine, unless it is somebody's recorded workload."""
        core = self._core
        found = await self._inspect(engine, name)
        if found is None:
            await core.world.clock.sleep(core.settings.recovery_settle_s)
            found = await self._inspect(engine, name)
        if found is None:
            if len(self._late) < _LATE_LOOKS_MAX:
                self._late.append((core.world.clock.monotonic() + _LATE_LOOK_S, nodename, name))
            return
        if await core.store.get(core.keys.workload(found.id)) is None:
            await self._remove(engine, found.id, force=True)

    async def _settle_deploy(self, op: Operation, engine: Engine, held: Held) -> None:
        core, intent = self._core, held.intent
        if intent.group and intent.record is not None and await is_committed(core, intent.group):
            found = await self._inspect(engine, intent.name)
            if found is not None and found.id == intent.record.id:
                await core.ledger.record(op, held, intent.record)
                core.remapper.created(intent.nodename, {intent.record.id: intent.record.grant})
                return
        elif intent.group:
            await is_committed(core, intent.group)  # closes it: from now on the group cannot be committed
        await self._undo_create(engine, intent.nodename, intent.name)
        await core.ledger.release(op, held)
        core.remapper.removed(intent.nodename, [intent.grant])

    async def _finish_remove(self, op: Operation, engine: Engine, held: Held) -> None:
        core = self._core
        intent = held.intent
        stored = await self._record(intent.id)
        force = intent.force or intent.verb is Verb.LAMBDA
        try:
            await self._remove(engine, intent.id, force=force)
        except EngineRefused:
            # It may be gone all the same: an engine also refuses while it is busy removing.
            if await self._inspect(engine, intent.id) is not None:
                if force or stored is None:
                    raise
                await core.ledger.drop(op, held)
                return
        if stored is None:
            await core.ledger.drop(op, held)
        else:
            await core.ledger.erase(op, held, stored.workload)
            core.remapper.removed(intent.nodename, [stored.workload.grant])

    async def _undo_replace(self, op: Operation, engine: Engine, held: Held) -> None:
        core = self._core
        intent = held.intent
        await self._undo_create(engine, intent.nodename, intent.successor)
        if intent.running and await self._record(intent.id) is not None:
            try:
                if intent.stopping:  # to its end, or it would end what is started now
                    async with asyncio.timeout(core.settings.engine_slow_call_s):
                        await engine.stop(intent.id)
                async with asyncio.timeout(core.settings.engine_call_s):
                    await engine.start(intent.id)
            except EngineMissing:
                pass
        await core.ledger.drop(op, held)

    async def _finish_realloc(self, op: Operation, engine: Engine, held: Held) -> None:
        stored = await self._record(held.intent.id)
        if stored is None:
            await self._core.ledger.drop(op, held)
        else:
            await settle_realloc(self._core, op, engine, held, stored)

    async def _finish_restart(self, op: Operation, engine: Engine, held: Held) -> None:
        """Once more, and from the beginning where it runs: the engine may still be busy with the first stop."""
        core = self._core
        stored = await self._record(held.intent.id)
        found = await self._inspect(engine, held.intent.id) if stored is not None else None
        if stored is not None and found is not None:
            try:
                await restart_again(core, engine, stored.workload, running=found.running)
            except EngineMissing:
                pass
            except (EngineRefused, NotSupported) as error:
                _log.warning("restart cannot be finished", workload=stored.id, error=str(error))
        await core.ledger.drop(op, held)

    async def _lambda_runs(self, engine: Engine, held: Held) -> bool:
        intent = held.intent
        if self._core.world.clock.now() >= intent.deadline:
            return False
        found = await self._inspect(engine, intent.id or intent.name)
        return found is not None and found.running

    # Steps.

    async def _record(self, id: str) -> StoredWorkload | None:
        item = await self._core.store.get(self._core.keys.workload(id))
        return StoredWorkload(Workload.decode(item.value), item.mod_revision) if item else None

    async def _inspect(self, engine: Engine, name: str) -> Inspection | None:
        try:
            async with asyncio.timeout(self._core.settings.engine_call_s):
                return await engine.inspect(name)
        except EngineMissing:
            return None

    async def _remove(self, engine: Engine, id: str, *, force: bool) -> None:
        try:
            async with asyncio.timeout(self._core.settings.engine_slow_call_s):
                await engine.remove(id, force=force)
        except EngineMissing:
            return

    async def _sweep_groups(self) -> None:
        if self._core.fleet.view.groups and self._core.session.registered:
            try:
                await sweep_groups(self._core)
            except EruError as error:
                _log.warning("groups cannot be swept yet", error=str(error))

    async def _look_late(self) -> None:
        """One more look for what an engine may have created after its intent was settled."""
        core = self._core
        now = core.world.clock.monotonic()
        while self._late and self._late[0][0] <= now:
            _, nodename, name = self._late.pop(0)
            try:
                engine = await core.engine_for(nodename)
                found = await self._inspect(engine, name)
                if found is not None and await core.store.get(core.keys.workload(found.id)) is None:
                    await self._remove(engine, found.id, force=True)
            except NotFound:
                continue
            except (EruError, TimeoutError) as error:
                _log.warning("late look failed", node=nodename, workload=name, error=str(error))


async def settle_realloc(core: Parts, op: Operation, engine: Engine, held: Held, stored: StoredWorkload) -> bool:
    """Make engine and record agree and drop the intent; True when the new grant is in force.

    Raises EruError when the engine does not answer: the intent stays, and the
    next try goes on from there.
    """
    forward = True
    try:
        try:
            await update_engine(core, engine, stored.workload)
        except (EngineRefused, NotSupported):
            if not held.intent.grant:
                raise
            held, stored = await core.ledger.restore(op, held, stored)
            forward = False
            await update_engine(core, engine, stored.workload)
    except (EngineRefused, NotSupported, NoCapacity) as error:
        _log.warning("engine keeps other limits than granted", workload=stored.id, error=str(error))
    except EngineMissing:
        pass
    await core.ledger.drop(op, held)
    core.remapper.changed(stored.workload.nodename)
    return forward


async def restart_again(core: Parts, engine: Engine, workload: Workload, *, running: bool) -> None:
    """Stop (if it runs) and start, with hooks whose failures do not count. Raises EngineError."""
    hook, settings = workload.hook or Hook(), core.settings
    if running:
        await run_hooks(engine, workload, hook.before_stop, settings, force=False)
        async with asyncio.timeout(settings.engine_slow_call_s):
            await engine.stop(workload.id)
    async with asyncio.timeout(settings.engine_call_s):
        await engine.start(workload.id)
    await run_hooks(engine, workload, hook.after_start, settings, force=False)


async def update_engine(core: Parts, engine: Engine, workload: Workload) -> None:
    """Give the engine what the record says."""
    async with asyncio.timeout(core.settings.engine_call_s):
        await engine.update(workload.id, workload.engine_params)
