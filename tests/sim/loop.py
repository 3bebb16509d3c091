"""An event loop whose time jumps to the next timer, so that hours pass in milliseconds and every run repeats."""

from __future__ import annotations

import asyncio
import contextvars
import random
import selectors
from collections import deque
from collections.abc import Coroutine
from typing import Any
from weakref import WeakSet

# Which simulated process a task belongs to; inherited by the tasks it starts.
PROCESS: contextvars.ContextVar[str] = contextvars.ContextVar("process", default="world")


class Stuck(Exception):
    """Nothing is ready and no timer is set: everybody waits for somebody."""


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: what would be waiting time becomes virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Stuck("the simulation waits for ever")
        if timeout > 0:
            self.now += timeout
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """See the module. `tasks_of(process)` are its tasks that have not ended.

    With `shuffle` what is ready at the same moment runs in an order by chance,
    not in the order in which it became ready.
    """

    def __init__(self, shuffle: random.Random | None = None) -> None:
        self._shuffle = shuffle
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._tasks: dict[str, WeakSet[asyncio.Task[Any]]] = {}
        self._killed: set[str] = set()
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]

    def _run_once(self) -> None:
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]
        if self._shuffle is not None and len(ready) > 1:
            order = list(ready)
            self._shuffle.shuffle(order)
            ready.clear()
            ready.extend(order)
        super()._run_once()  # type: ignore[misc]

    def time(self) -> float:
        return self._jumping.now

    def tasks_of(self, process: str) -> list[asyncio.Task[Any]]:
        return [task for task in sorted(self._tasks.get(process, ()), key=_age) if not task.done()]

    def kill(self, process: str) -> None:
        """End a process: its tasks are cancelled, and so is what their cleaning up starts."""
        self._killed.add(process)
        for task in self.tasks_of(process):
            task.cancel()

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task = _Numbered(work, loop=loop, **options)
        context = options.get("context")
        process = context.get(PROCESS, "world") if context is not None else PROCESS.get()
        self._tasks.setdefault(process, WeakSet()).add(task)
        if process in self._killed:
            task.cancel()
        return task


def _age(task: asyncio.Task[Any]) -> int:
    return task.number  # type: ignore[attr-defined,no-any-return]


class _Numbered(asyncio.Task):  # type: ignore[type-arg]
    """Numbered, so that a set of tasks has an order that repeats."""

    made = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _Numbered.made += 1
        self.number = _Numbered.made
