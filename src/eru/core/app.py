"""One core process, without gRPC: the parts that operations are made of, and what goes on by itself.

`ops/<verb>` take a `Core`; what they use of it stands in `eru.core.parts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from eru.core.parts import Parts
from eru.core.recovery import Recovery
from eru.core.settings import CoreSettings
from eru.core.watchdog import Watchdog
from eru.engine.pool import EnginePool
from eru.lib.world import World
from eru.resource.contract import Kind
from eru.store.contract import Store
from eru.store.keys import Keys

_log = structlog.get_logger(__name__)

_RESTART_PAUSE_S = 1.0


class Core(Parts):
    """See the module. `start` before use, `drain` to finish what runs, `stop` at the end."""

    def __init__(
        self,
        world: World,
        store: Store,
        keys: Keys,
        engines: EnginePool,
        kinds: Mapping[str, Kind],
        settings: CoreSettings,
    ) -> None:
        super().__init__(world, store, keys, engines, kinds, settings)
        self.recovery = Recovery(self)
        self.watchdog = Watchdog(self)
        self._started = asyncio.Event()

    async def start(self) -> None:
        """Register, read the cluster, begin to follow it. Raises StoreError."""
        await self.session.start()
        await self.fleet.start()
        self.events.start()
        for name, work in (
            ("session", self.session.keep),
            ("fleet", self.fleet.follow),
            ("recovery", self.recovery.run),
            ("watchdog", self.watchdog.run),
            ("statuses", self.fanout.run),
        ):
            self.tasks.start(name, self._for_ever(name, work))
        self._started.set()

    async def drain(self, timeout_s: float) -> bool:
        """End the streams, begin nothing new, wait for what runs; False when `timeout_s` passed first."""
        self.draining = True
        self.fanout.close()
        self.remapper.close()
        for hub in (self.fleet.statuses, self.fleet.node_events, self.fleet.core_events, self.events.hub):
            hub.close()
        return await self.background.wait_idle(timeout_s)

    async def stop(self) -> None:
        """Cancel what is left, unregister. The store and the engines belong to the caller."""
        await self.background.close()
        self.committer.close()
        self.reports.close()
        await self.tasks.close()
        await self.session.stop()

    @property
    def ready(self) -> bool:
        """Whether operations can succeed: registered, and not going away."""
        return self._started.is_set() and self.session.registered and not self.draining

    async def _for_ever(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """These must not end while the core lives, whatever happens to them."""
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - a core that goes on without one of them is worse
                _log.error("restarted after a failure", task=name, error=str(error), exc_info=error)
            await self.world.clock.sleep(_RESTART_PAUSE_S)
