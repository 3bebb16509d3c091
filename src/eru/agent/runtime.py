"""What the agent needs of the engine on its node.

The first part is a subset of `eru.engine.contract.Engine`, so every engine
that follows that contract can be watched (the fake one in tests). The second
part, `LogSource`, is the fast way to output that only some engines have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

import msgspec

from eru.engine.contract import EngineEvent, Inspection, Listed, Session


class Runtime(Protocol):
    """The state of workloads. Errors as in `eru.engine.contract`."""

    @property
    def type(self) -> str: ...

    async def ping(self) -> None: ...

    async def find(self, labels: Mapping[str, str], *, running_only: bool = False) -> list[Listed]: ...

    async def inspect(self, id_or_name: str) -> Inspection: ...

    def events(self, labels: Mapping[str, str], since_ns: int = 0) -> AsyncIterator[EngineEvent]: ...

    async def exec(self, id: str, commands: Sequence[str]) -> Session: ...

    async def close(self) -> None: ...


class PastLine(msgspec.Struct, frozen=True):
    """One line of history with its newline if it had one. `stream` 1: stdout, 2: stderr.

    `parts`: of a line without its end, (time, bytes) of each piece the engine kept.
    """

    stream: int
    time_ns: int
    data: bytes
    parts: tuple[tuple[int, int], ...] = ()


class Feed(Protocol):
    """Takes live output. Called on the event loop, never concurrently."""

    def output(self, data: bytes) -> None:
        """The next bytes as the engine framed them."""

    def ended(self, error: Exception | None) -> None:
        """No more output: None, the workload closed its side; else the connection broke."""


class Attachment(Protocol):
    """A live connection to one workload's output."""

    def pause(self) -> None:
        """Stop reading: the engine, and then the workload, has to wait."""

    def resume(self) -> None: ...

    def close(self) -> None: ...


class LogSource(Protocol):
    """Output of workloads, live and past. `same_clock`: the engine's times can be compared with ours exactly."""

    @property
    def same_clock(self) -> bool: ...

    async def attach(self, id: str, feed: Feed, *, timeout_s: float | None = None) -> Attachment:
        """Output from now on: frames of 8 bytes head and payload, or bare bytes of a tty.

        `timeout_s`: for the answer; without it the usual bound of a call.
        """

    def history(self, id: str, *, tty: bool, since_ns: int, recent: bool = False) -> AsyncIterator[list[PastLine]]:
        """Kept lines in batches, oldest first, both streams; `recent`: only the last ones, at little cost.

        Raises EngineRefused if none are kept.
        """
