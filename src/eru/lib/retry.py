"""Waiting times between tries: exponential, capped, with jitter."""

from __future__ import annotations

from dataclasses import dataclass

from eru.lib.world import World


@dataclass(slots=True)
class Backoff:
    """Each `wait` sleeps longer, from `first_s` up to `most_s`; `reset` after a success."""

    world: World
    first_s: float = 0.1
    most_s: float = 10.0
    factor: float = 2.0
    tries: int = 0

    def next_s(self) -> float:
        """The next waiting time in seconds."""
        exponent = min(self.tries, 30)
        self.tries += 1
        return self.world.jitter(min(self.first_s * self.factor**exponent, self.most_s), 0.2)

    async def wait(self) -> None:
        """Sleep for the next waiting time."""
        await self.world.clock.sleep(self.next_s())

    def reset(self) -> None:
        """The thing works again."""
        self.tries = 0
