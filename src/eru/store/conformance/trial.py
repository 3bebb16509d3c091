"""What the checks share: the store under trial, and waiting for events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from eru.lib.world import World
from eru.store.contract import (
    Event,
    Put,
    Store,
    Watch,
    WatchBatch,
)

EVENT_WAIT_S = 60.0


class CompactableStore(Store, Protocol):
    """What all backends can do beside the contract."""

    async def compact(self, revision: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Trial:
    """A store to check, and the prefix ("/something") where nobody else writes."""

    store: CompactableStore
    room: str
    world: World

    def key(self, name: str) -> str:
        return f"{self.room}/{name}"

    async def put(self, name: str, value: bytes = b"", lease: int = 0) -> int:
        """Write one key; the revision."""
        return (await self.store.txn([], [Put(self.key(name), value, lease)])).revision

    async def watch(self, from_revision: int) -> Watch:
        return await self.store.watch(f"{self.room}/", from_revision)


Check = Callable[[Trial], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    CHECKS[getattr(function, "__name__", "")] = function
    return function


async def raises(error: type[Exception], work: Awaitable[object]) -> None:
    """`work` fails with `error`."""
    try:
        result = await work
    except error:
        return
    raise AssertionError(f"expected {error.__name__}, got {result!r}")


async def events_until(watch: Watch, revision: int) -> list[Event]:
    """All events up to `revision`, which must come within EVENT_WAIT_S."""
    return [event for batch in await batches_until(watch, revision) for event in batch.events]


async def batches_until(watch: Watch, revision: int) -> list[WatchBatch]:
    batches: list[WatchBatch] = []
    iterator: AsyncIterator[WatchBatch] = aiter(watch)
    async with asyncio.timeout(EVENT_WAIT_S):
        while not batches or batches[-1].revision < revision:
            batches.append(await anext(iterator))
    return batches
