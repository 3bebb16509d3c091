"""Which cores there are, for clients that balance over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog

from eru.core.app import Core
from eru.model.cores import Registration
from eru.model.errors import StoreError
from eru.store.contract import Put

_log = structlog.get_logger(__name__)


async def watch_cores(core: Core) -> AsyncIterator[list[str]]:
    """The addresses at once, after each change, and each `push_interval_s` again. Ends when the core drains."""
    with core.fleet.core_events.subscribe() as events:
        changes = aiter(events)
        waiting: asyncio.Future[object] | None = None
        try:
            while True:
                yield core.fleet.core_addresses()
                if waiting is None:
                    waiting = core.tasks.start("watch cores", _next(changes))
                await asyncio.wait({waiting}, timeout=core.settings.push_interval_s)
                if waiting.done():
                    if waiting.result() is None:
                        return
                    waiting = None
        finally:
            if waiting is not None:
                waiting.cancel()


async def _next(changes: AsyncIterator[dict[str, str]]) -> dict[str, str] | None:
    return await anext(changes, None)


async def withdraw(core: Core) -> None:
    """Tell everybody not to begin anything here any more, while what runs goes on under the same registration."""
    identity = core.session.current()
    if identity is None or identity.margin_s() <= 0:
        return
    key = core.keys.core(identity.id)
    gone = Registration(id=identity.id, version=core.settings.version)  # no address: nobody connects to it
    try:
        await core.store.txn([identity.guard], [Put(key, gone.encode(), identity.lease)])
    except StoreError as error:
        _log.warning("this core could not be taken off the list", error=str(error))
