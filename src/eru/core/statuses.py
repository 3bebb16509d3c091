"""Fan-out of events to streams: bounded queues, slow readers are cut off and never stall others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from eru.model.errors import Refused
from eru.model.workloads import WorkloadStatus

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """A node's heartbeat appeared or was written (alive), or vanished."""

    nodename: str
    podname: str
    alive: bool
    revision: int


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """A workload's status was written, or deleted (`status` None)."""

    appname: str
    entrypoint: str
    nodename: str
    id: str
    status: WorkloadStatus | None
    revision: int


class Subscription(Generic[E]):
    """One reader's queue. Iteration ends when the hub closes; Refused when the reader was too slow."""

    def __init__(self, wants: Callable[[E], bool] | None, queue_max: int) -> None:
        self._wants = wants
        self._queue: asyncio.Queue[E | None] = asyncio.Queue()  # bounded by `_limit`, see `offer`
        self._limit = queue_max
        self._cut = False

    def offer(self, event: E) -> None:
        """Queue the event if it is wanted and there is room; never waits."""
        if self._cut or (self._wants is not None and not self._wants(event)):
            return
        if self._queue.qsize() >= self._limit:
            self._cut = True
            self._queue.put_nowait(None)
            return
        self._queue.put_nowait(event)

    def end(self) -> None:
        """No more events; what is queued is still delivered."""
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[E]:
        while (event := await self._queue.get()) is not None:
            yield event
        if self._cut:
            raise Refused(f"this stream was cut off: more than {self._limit} events were waiting for its reader")


class Hub(Generic[E]):
    """One source, many readers."""

    def __init__(self, queue_max: int) -> None:
        self._queue_max = queue_max
        self._subscriptions: set[Subscription[E]] = set()
        self._listeners: list[Callable[[E], None]] = []
        self._closed = False

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._subscriptions or self._listeners)

    @property
    def followed(self) -> bool:
        """Whether any stream reads it."""
        return bool(self._subscriptions)

    def listen(self, hear: Callable[[E], None]) -> None:
        """Call `hear`, which must be quick, with every event from now on."""
        self._listeners.append(hear)

    @contextmanager
    def subscribe(self, wants: Callable[[E], bool] | None = None) -> Iterator[Subscription[E]]:
        """Events from now on, for as long as the block lasts."""
        subscription: Subscription[E] = Subscription(wants, self._queue_max)
        self._subscriptions.add(subscription)
        if self._closed:
            subscription.end()
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def publish(self, event: E) -> None:
        """Offer to every reader."""
        for hear in self._listeners:
            hear(event)
        for subscription in self._subscriptions:
            subscription.offer(event)

    def close(self) -> None:
        """End all streams, present and future."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.end()
