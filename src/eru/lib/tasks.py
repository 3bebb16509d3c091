"""Ownership of concurrent work: no task without an owner, no fan-out without a bound."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
R = TypeVar("R")

_log = structlog.get_logger(__name__)


class TaskOwner:
    """Long-lived background tasks that end together.

    A task that fails is logged with its name and leaves the others running;
    `close` cancels what is left and waits for it. `shared`: its tasks work for
    everybody, so their log lines do not carry the trace id of who started them.
    """

    def __init__(self, name: str, *, shared: bool = False) -> None:
        self.name = name
        self._shared = shared
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` until it ends or the owner closes."""
        if self._closed:
            work.close()
            raise RuntimeError(f"{self.name} is closed, {name} cannot start")
        context = contextvars.copy_context()
        if self._shared:
            context.run(structlog.contextvars.clear_contextvars)
        task = asyncio.get_running_loop().create_task(work, name=f"{self.name}:{name}", context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def names(self) -> list[str]:
        """What runs right now, for the debug dump."""
        return sorted(task.get_name() for task in self._tasks)

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing runs any more; False when `timeout_s` passed first."""
        if not self._tasks:
            return True
        _, pending = await asyncio.wait(set(self._tasks), timeout=timeout_s)
        return not pending

    async def close(self) -> None:
        """Cancel everything and wait until it has ended."""
        self._closed = True
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background task failed", task=task.get_name(), error=str(error), exc_info=error)


@asynccontextmanager
async def task_owner(name: str) -> AsyncIterator[TaskOwner]:
    """A `TaskOwner` that is closed at the end of the block."""
    owner = TaskOwner(name)
    try:
        yield owner
    finally:
        await owner.close()


async def map_bounded(items: Iterable[T], work: Callable[[T], Awaitable[R]], limit: int) -> list[R]:
    """Results of `work` for each item in order, at most `limit` at the same time.

    The first failure cancels the rest and is raised.
    """
    todo = list(items)
    results: dict[int, R] = {}
    numbers = iter(range(len(todo)))

    async def worker() -> None:
        """Takes one after the other: an item that is done at once costs no task of its own."""
        for number in numbers:
            results[number] = await work(todo[number])

    async with asyncio.TaskGroup() as group:
        for _ in range(min(limit, len(todo))):
            group.create_task(worker())
    return [results[number] for number in range(len(todo))]


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """Finish `work` even when the caller is cancelled meanwhile, then pass that on.

    For the few steps that must not stop half-way because a client left.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                continue  # told again; the step still has to end first
        if not task.cancelled() and task.exception() is not None:
            _log.error("shielded step failed after its caller left", error=str(task.exception()))
        raise
