"""Which cores there are, for clients that balance over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from eru.core.app import Core


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
