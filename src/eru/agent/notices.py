"""One clear line per trouble: said at once, then at most once per period, then once when it is over."""

from __future__ import annotations

from typing import Any

import structlog

from eru.lib.world import World

_log = structlog.get_logger("eru.agent")


class Notices:
    """Rate-limited trouble lines by key. `again_s`: the least time between two lines of one key."""

    def __init__(self, world: World, again_s: float = 60.0) -> None:
        self._world = world
        self._again_s = again_s
        self._open: dict[str, tuple[float, int]] = {}

    def trouble(self, key: str, message: str, **facts: Any) -> None:
        """Say `message` unless the same key was said within the period."""
        now = self._world.clock.monotonic()
        said_at, silent = self._open.get(key, (-self._again_s, 0))
        if now - said_at < self._again_s:
            self._open[key] = (said_at, silent + 1)
            return
        if silent:
            facts["repeated"] = silent
        self._open[key] = (now, 0)
        _log.warning(message, **facts)

    def over(self, key: str, message: str, **facts: Any) -> None:
        """Say that the trouble of `key` has ended, if there was one."""
        if self._open.pop(key, None) is not None:
            _log.info(message, **facts)

    def current(self) -> list[str]:
        """Keys of the troubles that have not ended."""
        return sorted(self._open)
