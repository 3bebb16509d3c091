"""The seams to everything that makes a run unrepeatable: time and chance.

All other rooms take a `World` and ask it. Production hands in `real_world()`;
a simulation hands in a seeded one on an event loop with virtual time, and the
very same code runs. (Network and disk have their seams in `store` and
`engine`.) A linter rule keeps `time.time`, `random`, `uuid` and
`asyncio.sleep` out of every other room.
"""

from __future__ import annotations

import asyncio
import random
import string
import time
from dataclasses import dataclass
from typing import Protocol

_LETTERS = string.ascii_letters
_SPARE_BITS = 64  # so that every letter is as likely as any other


class Clock(Protocol):
    """What time it is, and waiting for it to pass."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps; for measuring and deadlines."""

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less only yields to other tasks."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))


class LoopClock:
    """A clock that follows the running event loop's time.

    On a loop with virtual time (tests/sim) this makes hours pass in
    milliseconds. `epoch` is the Unix time at loop time 0.
    """

    def __init__(self, epoch: float = 1_700_000_000.0) -> None:
        self._epoch = epoch

    def now(self) -> float:
        return self._epoch + asyncio.get_running_loop().time()

    def now_ns(self) -> int:
        return int(self.now() * 1_000_000_000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))


@dataclass(frozen=True, slots=True)
class World:
    """Time and chance, passed to whoever needs them."""

    clock: Clock
    random: random.Random

    def letters(self, count: int) -> str:
        """`count` random letters a-zA-Z, as in workload names and deploy idents."""
        number = self.random.getrandbits(_SPARE_BITS + 6 * count)  # one draw: each asks the system for entropy
        letters = []
        for _ in range(count):
            number, at = divmod(number, len(_LETTERS))
            letters.append(_LETTERS[at])
        return "".join(letters)

    def hex(self, count: int) -> str:
        """`count` random lower-case hexadecimal digits."""
        return f"{self.random.getrandbits(4 * count):0{count}x}" if count else ""

    def jitter(self, seconds: float, part: float = 0.1) -> float:
        """`seconds`, moved up or down by at most `part` of it."""
        return seconds * (1 + part * (2 * self.random.random() - 1))


def real_world() -> World:
    """The world of production: the machine's clock and its entropy."""
    return World(SystemClock(), random.SystemRandom())


def seeded_world(seed: int, clock: Clock | None = None) -> World:
    """A world whose chance repeats for the same seed; time follows the event loop."""
    return World(clock or LoopClock(), random.Random(seed))
