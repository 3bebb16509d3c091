"""What goes wrong, decided from the seed: for each effect of each core, store and engine alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NoReturn

from eru.engine.contract import Engine
from eru.engine.faulty import Fault as EngineFault
from eru.engine.faulty import FaultyEngine, Verdict
from eru.lib.world import World
from eru.model.errors import EngineError, EngineOutcomeUnknown
from eru.store.faulty import Fault, FaultKind

READS = {"get", "get_many", "range"}
CHANGING = {"create", "start", "stop", "remove", "update", "send_file"}


@dataclass(slots=True)
class Chances:
    """Probability of each fault per effect; all 0 once the world is healed."""

    store_slow: float = 0.5
    store_fail: float = 0.01
    answer_lost: float = 0.02
    request_lost: float = 0.01
    done_late: float = 0.01
    lease_lost: float = 0.002
    watch_gap: float = 0.003
    engine_slow: float = 0.5
    engine_fail: float = 0.01
    engine_refuse: float = 0.01
    engine_lost: float = 0.02
    engine_late: float = 0.005
    crash: float = 0.004
    cut_off: float = 0.002  # a core does not reach the store for a while; its engines it does
    node_down: float = 0.002  # an engine does not answer anybody for a while

    def heal(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0.0)
        self.store_slow = self.engine_slow = 0.2


class CoreFaults:
    """The faults of one life of one core. `dead`: no effect of it happens any more."""

    def __init__(
        self,
        name: str,
        chance: random.Random,
        chances: Chances,
        crash: Callable[[], None],
        tell: Any,
        unwilling: set[str],
    ) -> None:
        self.name = name
        self._unwilling = unwilling  # workloads that an engine refused to start: whoever asked was told
        self.dead = False
        self.strike: Callable[[str], bool] | None = None  # crash right after this store call?
        self._cut_off_until = 0.0
        self._chance = chance
        self._chances = chances
        self._crash = crash
        self._tell = tell

    def store(self, verb: str) -> Fault | None:
        """For `FaultyStore`."""
        if self.dead:
            return Fault(FaultKind.FAIL_BEFORE)
        if self.strike is not None and self.strike(verb):
            self._tell(f"{self.name} crashes right after store {verb}")
            asyncio.get_running_loop().call_soon(self._crash)
            return None
        chances, roll = self._chances, self._chance.random()
        now = asyncio.get_running_loop().time()
        if self._chance.random() < chances.cut_off:
            length_s = self._chance.choice([1.0, 5.0, 12.0])
            self._cut_off_until = now + length_s
            self._tell(f"{self.name} is cut off from the store for {length_s} s")
        if now < self._cut_off_until:
            lost = verb == "txn" and self._chance.random() < 0.5
            return Fault(FaultKind.REQUEST_LOST if lost else FaultKind.FAIL_BEFORE, 0.5)
        delay_s = self._chance.expovariate(1 / 0.01) if self._chance.random() < chances.store_slow else 0.0
        fault = self._store_fault(verb, roll)
        if fault is FaultKind.CRASH_BEFORE:
            if self._chance.random() < 0.5:
                self._tell(f"{self.name} crashes after store {verb}")
                asyncio.get_running_loop().call_later(delay_s, self._crash)
                return Fault(FaultKind.DELAY, delay_s)  # the effect and the crash come in the same moment
            self._tell(f"{self.name} crashes before store {verb}")
            self._crash()
            return Fault(FaultKind.FAIL_BEFORE)
        if fault is None:
            return Fault(FaultKind.DELAY, delay_s) if delay_s else None
        self._tell(f"{self.name} store {verb}: {fault.value}")
        if fault is FaultKind.DONE_LATE:
            delay_s += self._chance.uniform(0.0, 3.0)
        return Fault(fault, delay_s)

    def _store_fault(self, verb: str, roll: float) -> FaultKind | None:
        c = self._chances
        rules = [(c.crash, FaultKind.CRASH_BEFORE), (c.store_fail, FaultKind.FAIL_BEFORE)]
        if verb in ("txn", "grant", "keep_alive"):
            rules += [(c.answer_lost, FaultKind.ANSWER_LOST), (c.request_lost, FaultKind.REQUEST_LOST)]
        if verb == "txn":
            rules += [(c.done_late, FaultKind.DONE_LATE)]
        if verb == "keep_alive":
            rules += [(c.lease_lost * 10, FaultKind.LEASE_LOST)]
        if verb in ("watch", "watch.next"):
            rules = [
                (c.crash / 4, FaultKind.CRASH_BEFORE),
                (c.watch_gap, FaultKind.WATCH_GAP),
                (c.store_fail / 4, FaultKind.FAIL_BEFORE),
            ]
        for part, kind in rules:
            if roll < part:
                return kind
            roll -= part
        return None

    # For `FaultyEngine`.

    def judge(self, verb: str, subject: str) -> Verdict:
        if self.dead:
            return Verdict(EngineFault.FAIL_BEFORE)
        c, roll = self._chances, self._chance.random()
        delay_s = self._chance.expovariate(1 / 0.05) if self._chance.random() < c.engine_slow else 0.0
        rules = [
            (c.crash / 2, EngineFault.CRASH_BEFORE),
            (c.crash / 2, EngineFault.CRASH_AFTER),
            (c.engine_fail, EngineFault.FAIL_BEFORE),
            (c.engine_lost / 2, EngineFault.LOSE_ANSWER),
            (c.engine_lost / 2, EngineFault.LOSE_CALL),
        ]
        if verb in CHANGING:
            rules.append((c.engine_refuse, EngineFault.REFUSE))
        for part, fault in rules:
            if roll < part:
                self._tell(f"{self.name} engine {verb} of {subject}: {fault.value}")
                if fault is EngineFault.REFUSE and verb == "start":
                    self._unwilling.add(subject)
                return Verdict(fault, delay_s)
            roll -= part
        return Verdict(EngineFault.NONE, delay_s)

    async def crash(self, verb: str, subject: str) -> NoReturn:
        self._crash()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a dead process went on")

    def late(self, verb: str) -> bool:
        """Whether an engine finishes this call long after its caller gave up."""
        return not self.dead and verb in ("create", "remove") and self._chance.random() < self._chances.engine_late


Late = Callable[[Coroutine[Any, Any, None]], None]


class LateEngine:
    """An engine that now and then answers nothing and does its work later: the slowest fault of all."""

    def __init__(self, world: World, engine: Engine, faults: CoreFaults, late: Late) -> None:
        self._world, self._engine, self._faults, self._late = world, engine, faults, late

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._engine, name)
        if name not in ("create", "remove"):
            return inner

        async def call(*args: Any, **kwargs: Any) -> Any:
            if not self._faults.late(name):
                return await inner(*args, **kwargs)
            self._late(self._later(inner, args, kwargs))
            await self._world.clock.sleep(0.5)
            raise EngineOutcomeUnknown(f"injected: {name} will be done late")

        return call

    async def _later(self, inner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        soon = self._world.random.random() < 0.7
        await self._world.clock.sleep(self._world.random.uniform(0.1, 2.0) if soon else 100.0)
        try:
            await inner(*args, **kwargs)
        except EngineError:
            return


def faulty_engine(world: World, engine: Engine, faults: CoreFaults, late: Late) -> Any:
    """The engine as a core with these faults sees it."""
    return FaultyEngine(world, LateEngine(world, engine, faults, late), faults)  # type: ignore[arg-type]
