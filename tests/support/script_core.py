"""A whole core on a thread of its own: memory store, fake engines, a real gRPC port, names that repeat."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from eru.core.app import Core
from eru.core.service import serve
from eru.core.settings import CoreSettings
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool
from eru.lib.world import SystemClock, World
from eru.resource.registry import builtin_kinds
from eru.store.keys import Keys
from eru.store.memory import MemoryStore
from eru.wire.server import ServerSettings


class Counting(random.Random):
    """Chance that counts: the n-th name is always the same, so expected output can be written down."""

    def __init__(self) -> None:
        super().__init__(1)
        self._count = 0

    def choices(self, population: Sequence[Any], *args: Any, k: int = 1, **more: Any) -> list[Any]:
        self._count += 1
        number, drawn = self._count, []
        for _ in range(k):
            number, digit = divmod(number, len(population))
            drawn.append(population[digit])
        return drawn[::-1]


@contextmanager
def running_core() -> Iterator[str]:
    """The address of a core that has nothing yet."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # its log is not in the script
    started: list[str] = []
    ready = threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def life() -> None:
        ended = asyncio.Event()
        world = World(SystemClock(), Counting())
        store = MemoryStore(world)
        engines = EnginePool(world, engine_factories(fakes=FakeCluster()))
        core = Core(world, store, Keys(), engines, builtin_kinds(), CoreSettings(identifier="c" * 64, version="9.9.9"))
        await core.start()
        server = await serve(core, ServerSettings(bind="127.0.0.1:0", drain_s=0.2))
        stop.append((asyncio.get_running_loop(), ended))
        started.append(f"127.0.0.1:{server.port}")
        ready.set()
        await ended.wait()
        await core.drain(1.0)
        await server.drain()
        await core.stop()
        await engines.close()
        await store.close()

    thread = threading.Thread(target=lambda: asyncio.run(life()), name="core")
    thread.start()
    try:
        assert ready.wait(20), "core did not start"
        yield started[0]
    finally:
        for loop, ended in stop:
            loop.call_soon_threadsafe(ended.set)
        thread.join(20)
        structlog.configure(**before)
