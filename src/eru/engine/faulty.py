"""An engine that is struck by faults between any two effects, for simulation.

Wraps a real engine (mostly the fake one) and asks a `Faults` before each call
what shall happen to it.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, cast

from eru.engine.contract import Engine
from eru.engine.verbs import COROUTINES, EFFECTS, STREAMS
from eru.lib.world import World
from eru.model.errors import EngineOutcomeUnknown, EngineRefused, EngineUnreachable


class Fault(enum.Enum):
    """What strikes one call."""

    NONE = "none"
    FAIL_BEFORE = "fail before"  # EngineUnreachable, nothing done
    REFUSE = "refuse"  # EngineRefused, nothing done
    LOSE_ANSWER = "lose answer"  # done; EngineOutcomeUnknown (reads: EngineUnreachable)
    LOSE_CALL = "lose call"  # not done; EngineOutcomeUnknown (reads: EngineUnreachable)
    CRASH_BEFORE = "crash before"  # the caller's process dies before the call
    CRASH_AFTER = "crash after"  # ... after it was done


@dataclass(frozen=True, slots=True)
class Verdict:
    """A fault, and how long the call takes before it (seconds)."""

    fault: Fault = Fault.NONE
    delay_s: float = 0.0


CALM = Verdict()


class Faults(Protocol):
    """Decides; written by the simulator, from its seed."""

    def judge(self, verb: str, subject: str) -> Verdict:
        """`verb`: name of the engine call; `subject`: what it is about (a name or id)."""

    async def crash(self, verb: str, subject: str) -> NoReturn:
        """End the process that made the call: must not return (its tasks get cancelled)."""


class FaultyEngine:
    """See `faulty`."""

    def __init__(self, world: World, engine: Engine, faults: Faults) -> None:
        self._world, self._engine, self._faults = world, engine, faults

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._engine, name)
        if name in COROUTINES:
            return lambda *args, **kwargs: self._call(name, inner, args, kwargs)
        if name in STREAMS:
            return lambda *args, **kwargs: self._stream(name, inner, args, kwargs)
        return inner

    async def _call(self, verb: str, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        subject = _subject(args)
        fault = await self._before(verb, subject)
        result = await inner(*args, **kwargs)
        await self._after(fault, verb, subject)
        return result

    async def _stream(self, verb: str, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        subject = _subject(args)
        fault = await self._before(verb, subject)
        async for item in inner(*args, **kwargs):
            yield item
        await self._after(fault, verb, subject)

    async def _before(self, verb: str, subject: str) -> Fault:
        verdict = self._faults.judge(verb, subject)
        if verdict.delay_s > 0:
            await self._world.clock.sleep(verdict.delay_s)
        if verdict.fault is Fault.CRASH_BEFORE:
            await self._faults.crash(verb, subject)
        if verdict.fault is Fault.FAIL_BEFORE:
            raise EngineUnreachable(f"injected: engine did not take {verb} of {subject}")
        if verdict.fault is Fault.REFUSE:
            raise EngineRefused(f"injected: engine refused {verb} of {subject}")
        if verdict.fault is Fault.LOSE_CALL:
            raise _lost(verb, subject)
        return verdict.fault

    async def _after(self, fault: Fault, verb: str, subject: str) -> None:
        if fault is Fault.CRASH_AFTER:
            await self._faults.crash(verb, subject)
        if fault is Fault.LOSE_ANSWER:
            raise _lost(verb, subject)


def faulty(world: World, engine: Engine, faults: Faults) -> Engine:
    """`engine`, struck by `faults`."""
    return cast(Engine, FaultyEngine(world, engine, faults))


def _lost(verb: str, subject: str) -> EngineOutcomeUnknown | EngineUnreachable:
    kind = EngineOutcomeUnknown if verb in EFFECTS or verb in STREAMS else EngineUnreachable
    return kind(f"injected: the answer to {verb} of {subject} got lost")


def _subject(args: tuple[Any, ...]) -> str:
    first = args[0] if args else ""
    return first if isinstance(first, str) else str(getattr(first, "name", ""))
