"""Streams between an engine and a client: bounded, and ended when the core goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from eru.core.app import Core
from eru.lib.tasks import task_owner
from eru.model.errors import EruError

T = TypeVar("T")

STREAM_ITEMS_MAX = 64  # waiting for a slow client; the engine is read no further then


@asynccontextmanager
async def closing(source: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """`source`, closed at the end of the block when it is one that can be closed."""
    try:
        yield source
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


class _End:
    def __init__(self, error: EruError | None = None) -> None:
        self.error = error


async def until_drained(core: Core, source: AsyncIterator[T]) -> AsyncIterator[T]:
    """The items of `source`, which is closed when the reader leaves; it ends early when the core drains."""
    queue: asyncio.Queue[T | _End] = asyncio.Queue(STREAM_ITEMS_MAX)

    async def read() -> None:
        end = _End()
        try:
            async with closing(source) as items:
                async for item in items:
                    await queue.put(item)
        except EruError as error:
            end = _End(error)
        await queue.put(end)

    async def watch() -> None:
        with core.fleet.core_events.subscribe(lambda _: False) as going_away:
            async for _ in going_away:
                pass
        await queue.put(_End())

    async with task_owner("stream") as tasks:
        tasks.start("read", read())
        tasks.start("watch", watch())
        while not isinstance(item := await queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
