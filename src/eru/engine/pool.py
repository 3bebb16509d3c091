"""Handles on engines: one per endpoint and certificates, shared by the nodes that name it.

`get` opens on demand and never fails: an engine that does not answer is
represented by one whose calls raise the remembered reason at once, while it is
tried again in the background. `private` gives a handle of one's own, for
looking at an engine before its node exists; nothing about it is remembered.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from eru.engine.contract import Engine, EngineLimits
from eru.engine.unreachable import unreachable
from eru.lib.retry import Backoff
from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import EngineError, EngineUnreachable, EruError, InvalidInput
from eru.model.nodes import NodeTLS

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Times in seconds. `ping_every_s` 0: engines are only found dead when used."""

    connect_timeout_s: float = 10.0
    retry_first_s: float = 0.5
    retry_most_s: float = 30.0
    ping_every_s: float = 30.0
    pings_parallel_max: int = 16
    openings_parallel_max: int = 64
    close_grace_s: float = 30.0
    limits: EngineLimits = field(default_factory=EngineLimits)


@dataclass(frozen=True, slots=True)
class Opening:
    """What an adapter's factory gets.

    `broken`: the adapter calls it when its engine stopped answering.
    """

    world: World
    endpoint: str
    tls: NodeTLS
    limits: EngineLimits
    connect_timeout_s: float
    broken: Callable[[EngineError], None]


Factory = Callable[[Opening], Awaitable[Engine]]


class _Handle:
    """An engine, or the reason why there is none, and the nodes that use it."""

    def __init__(self, key: tuple[str, str], endpoint: str, tls: NodeTLS) -> None:
        self.key, self.endpoint, self.tls = key, endpoint, tls
        self.engine: Engine | None = None
        self.error: EngineError | None = None
        self.opened = asyncio.Event()  # the first try has ended
        self.users: set[str] = set()
        self.gone = False


class EnginePool:
    """See the module. `factories`: endpoint scheme -> how to open such an engine."""

    def __init__(self, world: World, factories: Mapping[str, Factory], settings: PoolSettings | None = None) -> None:
        self.settings = settings or PoolSettings()
        self._world = world
        self._factories = dict(factories)
        self._handles: dict[tuple[str, str], _Handle] = {}
        self._of_node: dict[str, _Handle] = {}
        self._gate = asyncio.Semaphore(self.settings.openings_parallel_max)
        self._tasks = TaskOwner("engine pool", shared=True)
        self._pinging = False

    async def get(self, nodename: str, endpoint: str, tls: NodeTLS | None = None) -> Engine:
        """The engine of a node. Waits for the first try to reach it, at most `connect_timeout_s`.

        When the node used another endpoint or other certificates before, it
        leaves that handle, which closes with its last user.
        """
        key = _key(endpoint, tls)
        handle = self._of_node.get(nodename)
        if handle is None or handle.key != key:
            self.forget(nodename)
            handle = self._use(nodename, key, endpoint, tls or NodeTLS())
        if not handle.opened.is_set():
            await handle.opened.wait()
        return self._answer(nodename, handle)

    def known(self, nodename: str, endpoint: str) -> Engine | None:
        """As `get` for a node whose certificates have not changed since, without asking for them.

        None: not opened yet; read the certificates and call `get`.
        """
        handle = self._of_node.get(nodename)
        if handle is None or handle.endpoint != endpoint or not handle.opened.is_set():
            return None
        return self._answer(nodename, handle)

    def forget(self, nodename: str) -> None:
        """The node is gone or has changed; its handle closes with its last user."""
        handle = self._of_node.pop(nodename, None)
        if handle is None:
            return
        handle.users.discard(nodename)
        if not handle.users:
            handle.gone = True
            self._handles.pop(handle.key, None)
            if handle.engine is not None:
                self._tasks.start(f"close {handle.endpoint}", self._close_later(handle.engine))

    @asynccontextmanager
    async def private(self, endpoint: str, tls: NodeTLS | None = None) -> AsyncIterator[Engine]:
        """A handle that nobody shares, closed at the end of the block. Raises EngineError when it cannot be had."""
        engine = await self._open(endpoint, tls or NodeTLS(), lambda _: None)
        try:
            yield engine
        finally:
            await engine.close()

    def check_endpoint(self, endpoint: str) -> None:
        """Raises InvalidInput when no adapter knows the endpoint's scheme."""
        self._factory(endpoint)

    def unreachable_nodes(self) -> dict[str, str]:
        """Node -> why its engine does not answer, for metrics and the debug dump."""
        return {name: str(handle.error) for name, handle in self._of_node.items() if handle.error is not None}

    async def close(self) -> None:
        """Close every handle."""
        await self._tasks.close()
        handles, self._handles, self._of_node = list(self._handles.values()), {}, {}
        for handle in handles:
            handle.gone = True
            if handle.engine is not None:
                await handle.engine.close()

    # Inside.

    def _use(self, nodename: str, key: tuple[str, str], endpoint: str, tls: NodeTLS) -> _Handle:
        handle = self._handles.get(key)
        if handle is None:
            handle = self._handles[key] = _Handle(key, endpoint, tls)
            self._tasks.start(f"open {endpoint}", self._keep_open(handle))
            if not self._pinging and self.settings.ping_every_s > 0:
                self._pinging = True
                self._tasks.start("ping", self._ping_all())
        handle.users.add(nodename)
        self._of_node[nodename] = handle
        return handle

    def _answer(self, nodename: str, handle: _Handle) -> Engine:
        if handle.error is None and handle.engine is not None:
            return handle.engine
        reason = handle.error or EngineUnreachable("it has never been reached")
        return unreachable(type(reason)(f"engine of node {nodename} at {handle.endpoint} is unreachable: {reason}"))

    def _factory(self, endpoint: str) -> Factory:
        scheme, found, _ = endpoint.partition("://")
        factory = self._factories.get(scheme) if found else None
        if factory is None:
            known = ", ".join(f"{name}://" for name in sorted(self._factories))
            raise InvalidInput(f"endpoint {endpoint!r} has no known engine, expected one of {known}")
        return factory

    async def _open(self, endpoint: str, tls: NodeTLS, broken: Callable[[EngineError], None]) -> Engine:
        settings = self.settings
        opening = Opening(self._world, endpoint, tls, settings.limits, settings.connect_timeout_s, broken)
        factory = self._factory(endpoint)
        engine: Engine | None = None
        try:
            async with self._gate, asyncio.timeout(settings.connect_timeout_s):
                engine = await factory(opening)
                await engine.ping()
        except BaseException as error:
            if engine is not None:
                await engine.close()
            if isinstance(error, TimeoutError):
                raise EngineUnreachable(f"no answer within {settings.connect_timeout_s:g} s") from error
            raise
        return engine

    async def _keep_open(self, handle: _Handle) -> None:
        """Try until the engine answers or nobody wants it any more; ends then."""
        backoff = Backoff(self._world, self.settings.retry_first_s, self.settings.retry_most_s)
        while not handle.gone:
            try:
                engine = await self._open(handle.endpoint, handle.tls, lambda error: self._broken(handle, error))
            except InvalidInput as error:
                self._remember(handle, error)
                return
            except EruError as error:
                self._remember(handle, error)
            except Exception as error:  # noqa: BLE001 - whatever an adapter does, callers must not wait for ever
                self._remember(handle, EngineUnreachable(f"{type(error).__name__}: {error}"))
            else:
                if handle.users:
                    self._took(handle, engine)
                else:
                    await engine.close()
                return
            await backoff.wait()

    def _took(self, handle: _Handle, engine: Engine) -> None:
        if handle.error is not None:
            _log.info("engine answers again", endpoint=handle.endpoint, nodes=sorted(handle.users)[:10])
        handle.engine, handle.error = engine, None
        handle.opened.set()

    def _remember(self, handle: _Handle, error: EruError) -> None:
        if handle.error is None:
            nodes = sorted(handle.users)[:10]
            _log.warning("engine does not answer", endpoint=handle.endpoint, nodes=nodes, error=str(error))
        handle.error = error if isinstance(error, EngineError) else EngineUnreachable(str(error))
        handle.opened.set()

    def _broken(self, handle: _Handle, error: EngineError) -> None:
        """A working engine stopped answering: answer with the reason from now on, and mend it."""
        if handle.gone or handle.error is not None or handle.engine is None:
            return
        engine, handle.engine = handle.engine, None
        self._remember(handle, error)
        self._tasks.start(f"close {handle.endpoint}", self._close_later(engine))
        self._tasks.start(f"open {handle.endpoint}", self._keep_open(handle))

    async def _close_later(self, engine: Engine) -> None:
        """Calls that are under way get `close_grace_s` to end."""
        try:
            await self._world.clock.sleep(self.settings.close_grace_s)
        finally:
            await engine.close()

    async def _ping_all(self) -> None:
        while True:
            await self._world.clock.sleep(self._world.jitter(self.settings.ping_every_s))
            waiting = iter([handle for handle in self._handles.values() if handle.error is None])
            async with asyncio.TaskGroup() as group:
                for _ in range(self.settings.pings_parallel_max):
                    group.create_task(self._ping_next(waiting))

    async def _ping_next(self, waiting: Iterator[_Handle]) -> None:
        for handle in waiting:
            engine = handle.engine
            if engine is None:
                continue
            try:
                async with asyncio.timeout(self.settings.connect_timeout_s):
                    await engine.ping()
            except TimeoutError:
                self._broken(handle, EngineUnreachable(f"no answer to ping in {self.settings.connect_timeout_s:g} s"))
            except EngineError as error:
                self._broken(handle, error)


def _key(endpoint: str, tls: NodeTLS | None) -> tuple[str, str]:
    if tls is None or not (tls.ca or tls.cert or tls.key):
        return endpoint, ""
    text = "\0".join((tls.ca, tls.cert, tls.key))
    return endpoint, hashlib.sha256(text.encode()).hexdigest()
