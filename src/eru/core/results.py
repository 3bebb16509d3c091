"""Turns an operation that reports piece by piece into an async iterator.

The operation runs as a task of the core. When its reader goes away, the task
is cancelled and takes back, in its own time, what is not recorded yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from eru.lib.tasks import TaskOwner
from eru.model.errors import EruError

R = TypeVar("R")


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


async def stream(
    owner: TaskOwner, name: str, work: Callable[[Callable[[R], None]], Awaitable[None]]
) -> AsyncGenerator[R, None]:
    """What `work(tell)` tells, as it tells it; then its error, if it raises one.

    The queue between them is bounded by what the operation has to say: one
    result per workload.
    """
    queue: asyncio.Queue[R | _End] = asyncio.Queue()  # bounded by one result per workload

    async def run() -> None:
        try:
            await work(queue.put_nowait)
        except EruError as error:
            queue.put_nowait(_End(error))
        except BaseException as error:
            queue.put_nowait(_End(error))
            raise
        else:
            queue.put_nowait(_End(None))

    task = owner.start(name, run())
    try:
        while not isinstance(item := await queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        if not task.done():
            task.cancel()
