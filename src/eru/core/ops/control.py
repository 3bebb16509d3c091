"""Start, stop, restart, suspend, resume: the engine's verbs with the workload's hooks around them.

Each but restart is one call of the engine: whatever cuts it off, the workload
is as before or as asked, and asking again is safe. A restart that is cut off
after its stop would leave the workload down, so there is an intent while it
runs, and recovery does it once more.

One thing at a time is done with a workload: a verb waits for what is under way
on it, here or on another core, and gives up with a clear error.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import msgspec
import structlog

from eru.core.app import Core
from eru.core.calls import to_the_end
from eru.core.events import Kind, said
from eru.core.hooks import run_hooks
from eru.core.ops.remove import hold, release_hold
from eru.core.results import stream
from eru.engine.contract import Capability, Engine
from eru.lib.tasks import shielded
from eru.model.errors import (
    Conflict,
    EngineOutcomeUnknown,
    EngineUnreachable,
    EruError,
    InvalidInput,
    NotSupported,
)
from eru.model.intents import Verb
from eru.model.workloads import Hook, Workload

_log = structlog.get_logger(__name__)


class ControlVerb(str, enum.Enum):
    """What can be done to a workload."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    SUSPEND = "suspend"
    RESUME = "resume"


class Controlled(msgspec.Struct, frozen=True, kw_only=True):
    """One workload's outcome; `hook` is the output of its hooks."""

    id: str
    error: EruError | None = None
    hook: bytes = b""


def parse_verb(text: str) -> ControlVerb:
    """Raises InvalidInput."""
    try:
        return ControlVerb(text)
    except ValueError:
        known = ", ".join(verb.value for verb in ControlVerb)
        raise InvalidInput(f"unknown control type {text[:64]!r}, expected one of {known}") from None


def control(core: Core, ids: Sequence[str], verb: ControlVerb, *, force: bool) -> AsyncIterator[Controlled]:
    """One result per id, in completion order. `force`: failing hooks do not count, and stop does not wait."""
    core.check_accepting()
    return stream(core.background, f"{verb.value} {len(ids)}", lambda tell: _all(core, ids, verb, force, tell))


async def _all(
    core: Core, ids: Sequence[str], verb: ControlVerb, force: bool, tell: Callable[[Controlled], None]
) -> None:
    gate = asyncio.Semaphore(core.settings.engine_node_parallel_max)

    async def one(id: str) -> None:
        async with gate:
            try:
                tell(await _one(core, id, verb, force))
            except EruError as error:
                tell(Controlled(id=id, error=error))

    async with asyncio.TaskGroup() as group:
        for id in ids:
            group.create_task(one(id))


async def _one(core: Core, id: str, verb: ControlVerb, force: bool) -> Controlled:
    workload = (await core.workloads([id]))[0].workload
    async with _alone(core, workload):
        engine = await core.engine_for(workload.nodename)
        steps = Steps(core, engine, workload, force)
        try:
            if verb is ControlVerb.RESTART and not _is_lambda(core, workload):
                await _restart(core, steps, id, force)
            else:
                await steps.run(verb)
        except EruError as error:
            steps.failed(verb, error)
            return Controlled(id=id, error=error, hook=steps.output)
        return Controlled(id=id, hook=steps.output)


async def _restart(core: Core, steps: Steps, id: str, force: bool) -> None:
    """Stop and start, with an intent that remembers it. Recovery does what cannot be finished here."""
    async with core.operation("restart") as op:
        held, _ = await hold(core, op, id, Verb.RESTART, force=force)
        try:
            op.identity.check()
            await steps.run(ControlVerb.RESTART)
        except (EngineUnreachable, EngineOutcomeUnknown):
            if steps.stopping:
                op.left_behind = True
            else:
                await shielded(release_hold(core, op, held))
            raise
        except EruError:
            await shielded(release_hold(core, op, held))
            raise
        except BaseException:
            op.left_behind = True
            raise
        await shielded(release_hold(core, op, held))


def _is_lambda(core: Core, workload: Workload) -> bool:
    """A lambda has an intent for as long as it lives, which removes it in the end."""
    intent = core.fleet.intent_of(workload.nodename, workload.name)
    return intent is not None and intent.verb is Verb.LAMBDA and not intent.counted


class Steps:
    """The steps of one verb on one workload; `output` grows with what the hooks print."""

    def __init__(self, core: Core, engine: Engine, workload: Workload, force: bool) -> None:
        self._core = core
        self._engine = engine
        self._workload = workload
        self._force = force
        self.output = b""
        self.stopping = False  # a stop was asked for

    async def run(self, verb: ControlVerb) -> None:
        """Raises EruError for the step that failed."""
        match verb:
            case ControlVerb.START:
                await self._start()
            case ControlVerb.STOP:
                await self._stop()
            case ControlVerb.RESTART:
                await self._stop()
                await self._start()
            case ControlVerb.SUSPEND:
                self._check_suspend()
                await self._hooks(self._hook.before_suspend)
                await self._call(self._engine.suspend(self._workload.id), "suspend")
                self._tell("stopped", "suspended")
            case ControlVerb.RESUME:
                self._check_suspend()
                await self._call(self._engine.resume(self._workload.id), "resume")
                self._tell("started", "resumed")
                await self._hooks(self._hook.after_resume)

    def failed(self, verb: ControlVerb, error: EruError) -> None:
        """Note that the verb did not succeed."""
        self._tell("failed", verb.value, error)

    async def _start(self) -> None:
        await self._call(self._engine.start(self._workload.id), "start")
        self._tell("started")
        await self._hooks(self._hook.after_start)

    async def _stop(self) -> None:
        await self._hooks(self._hook.before_stop)
        self.stopping = True
        grace_s = 0.0 if self._force else None
        self._tell("stopping")
        await self._call(self._engine.stop(self._workload.id, grace_s), "stop")
        self._tell("stopped")

    @property
    def _hook(self) -> Hook:
        return self._workload.hook or Hook()

    async def _hooks(self, commands: Sequence[str]) -> None:
        must = self._hook.force and not self._force
        output, error = await run_hooks(self._engine, self._workload, commands, self._core.settings, force=must)
        self.output += output
        if commands:
            self._tell("hook", said(output), error)
        if error is not None:
            raise error

    async def _call(self, call: Coroutine[Any, Any, None], what: str) -> None:
        limit_s = self._core.settings.engine_slow_call_s
        await to_the_end(call, limit_s, f"{what} of workload {self._workload.id}")

    def _tell(self, kind: Kind, detail: str = "", error: EruError | None = None) -> None:
        self._core.events.about(kind, self._workload, detail, error)

    def _check_suspend(self) -> None:
        if Capability.SUSPEND not in self._engine.capabilities:
            raise NotSupported(f"engine {self._engine.type} of node {self._workload.nodename} cannot suspend workloads")


_locks: WeakKeyDictionary[Core, WeakValueDictionary[str, asyncio.Lock]] = WeakKeyDictionary()


@asynccontextmanager
async def _alone(core: Core, workload: Workload) -> AsyncIterator[None]:
    """Nobody else of this core works on the workload, and nobody at all was about to change it."""
    locks = _locks.setdefault(core, WeakValueDictionary())
    lock = locks.setdefault(workload.id, asyncio.Lock())
    wait_s = core.settings.hold_wait_s
    try:
        async with asyncio.timeout(wait_s):
            await lock.acquire()
    except TimeoutError:
        raise Conflict(f"workload {workload.id} is busy for more than {wait_s:g} s; try again") from None
    try:
        if not await core.fleet.intent_gone(workload.nodename, workload.name, wait_s):
            intent = core.fleet.intent_of(workload.nodename, workload.name)
            what = intent.verb.value if intent else "another operation"
            raise Conflict(f"workload {workload.id} is busy: {what} is under way; try again")
        yield
    finally:
        lock.release()
