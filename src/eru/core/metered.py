"""How long the store and the engines take, per verb: thin shells around both.

The composition root puts them on; nothing else knows that they are there.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

from prometheus_client import Counter, Histogram
from prometheus_client.registry import CollectorRegistry

from eru.engine.contract import Engine
from eru.engine.pool import Factory, Opening
from eru.lib.world import World
from eru.store.contract import PAGE_ITEMS, Compare, KeyValue, Page, Store, TxnResult, Watch, Write

R = TypeVar("R")

Around = Callable[[str, str], AbstractContextManager[None]]

LATENCY_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)


class CallTimes:
    """Histograms of store and engine calls, and counters of those that failed.

    `around("store" or "engine", verb)`: entered around each call, for traces.
    """

    def __init__(self, world: World, around: Around | None = None) -> None:
        self._world = world
        self._around = around
        self._store = Histogram("eru_store_seconds", "Time of store calls.", ["verb"], buckets=LATENCY_S, registry=None)
        self._engine = Histogram(
            "eru_engine_seconds", "Time of engine calls.", ["verb"], buckets=LATENCY_S, registry=None
        )
        self._store_of = functools.cache(self._store.labels)  # finding a series costs more than counting in it
        self._engine_of = functools.cache(self._engine.labels)
        self._failed = Counter("eru_call_failures", "Failed calls.", ["to", "verb", "error"], registry=None)

    def register(self, registry: CollectorRegistry) -> None:
        """Show them in `registry`."""
        for collector in (self._store, self._engine, self._failed):
            registry.register(collector)

    def store(self, store: Store) -> Store:
        """`store` with a stopwatch."""
        return _MeteredStore(store, functools.partial(self._timed, "store", self._store_of))

    def engines(self, factories: Mapping[str, Factory]) -> dict[str, Factory]:
        """Factories whose engines have a stopwatch."""
        return {scheme: self._factory(factory) for scheme, factory in factories.items()}

    def _factory(self, factory: Factory) -> Factory:
        async def make(opening: Opening) -> Engine:
            engine = await factory(opening)
            return cast(Engine, _MeteredEngine(engine, functools.partial(self._timed, "engine", self._engine_of)))

        return make

    async def _timed(self, to: str, times: Callable[[str], Histogram], verb: str, call: Awaitable[R]) -> R:
        begun = self._world.clock.monotonic()
        try:
            if self._around is None:
                return await call
            with self._around(to, verb):
                return await call
        except Exception as error:
            self._failed.labels(to, verb, type(error).__name__).inc()
            raise
        finally:
            times(verb).observe(self._world.clock.monotonic() - begun)


Timed = Callable[[str, Awaitable[Any]], Awaitable[Any]]


class _MeteredStore:
    """Every verb of the store, timed; opening a watch counts, following it does not."""

    def __init__(self, store: Store, timed: Timed) -> None:
        self._inner = store
        self._timed = timed

    async def get(self, key: str) -> KeyValue | None:
        return cast("KeyValue | None", await self._timed("get", self._inner.get(key)))

    async def get_many(self, keys: Sequence[str]) -> dict[str, KeyValue]:
        return cast(dict[str, KeyValue], await self._timed("get_many", self._inner.get_many(keys)))

    async def range(
        self,
        prefix: str,
        *,
        after: str = "",
        limit: int = PAGE_ITEMS,
        revision: int = 0,
        keys_only: bool = False,
    ) -> Page:
        call = self._inner.range(prefix, after=after, limit=limit, revision=revision, keys_only=keys_only)
        return cast(Page, await self._timed("range", call))

    async def txn(self, compares: Sequence[Compare], writes: Sequence[Write]) -> TxnResult:
        return cast(TxnResult, await self._timed("txn", self._inner.txn(compares, writes)))

    async def grant(self, ttl_s: int) -> int:
        return cast(int, await self._timed("grant", self._inner.grant(ttl_s)))

    async def keep_alive(self, lease: int) -> int:
        return cast(int, await self._timed("keep_alive", self._inner.keep_alive(lease)))

    async def revoke(self, lease: int) -> None:
        await self._timed("revoke", self._inner.revoke(lease))

    async def watch(self, prefix: str, from_revision: int) -> Watch:
        return cast(Watch, await self._timed("watch", self._inner.watch(prefix, from_revision)))

    async def close(self) -> None:
        await self._inner.close()


class _MeteredEngine:
    """Every awaited verb of an engine, timed, except waiting for a workload's end; streams pass through."""

    _UNTIMED = frozenset({"wait", "close"})

    def __init__(self, engine: Engine, timed: Timed) -> None:
        self._inner = engine
        self._timed = timed

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in self._UNTIMED or not inspect.iscoroutinefunction(found):
            return found

        async def timed(*args: Any, **options: Any) -> Any:
            return await self._timed(name, found(*args, **options))

        setattr(self, name, timed)
        return timed
