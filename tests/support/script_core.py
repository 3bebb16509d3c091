"""A whole core on a thread of its own: memory store, fake engines, a real gRPC port, names that repeat."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from string import ascii_lowercase
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


@dataclass(frozen=True, slots=True)
class CountingWorld(World):
    """A world that counts its names: the n-th is always the same, so expected output can be written down."""

    names: Iterator[int] = field(default_factory=count)

    def letters(self, count: int) -> str:
        """The next of `aaaaaa`, `aaaaab`, ..."""
        number, text = next(self.names), ""
        for _ in range(count):
            number, digit = divmod(number, len(ascii_lowercase))
            text = ascii_lowercase[digit] + text
        return text


@contextmanager
def running_core(**port: Any) -> Iterator[str]:
    """The address of a core that has nothing yet; `port`: further `ServerSettings`."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # its log is not in the script
    started: list[str] = []
    ready = threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def life() -> None:
        ended = asyncio.Event()
        world = CountingWorld(SystemClock(), random.Random(1))
        store = MemoryStore(world)
        engines = EnginePool(world, engine_factories(fakes=FakeCluster()))
        core = Core(world, store, Keys(), engines, builtin_kinds(), CoreSettings(identifier="c" * 64, version="9.9.9"))
        await core.start()
        server = await serve(core, ServerSettings(bind="127.0.0.1:0", drain_s=0.2, **port))
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
        assert ready.wait(60), "core did not start"
        yield started[0]
    finally:
        for loop, ended in stop:
            loop.call_soon_threadsafe(ended.set)
        thread.join(60)
        structlog.configure(**before)
