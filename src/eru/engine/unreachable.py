"""The engine in place of one that does not answer: every call says why, at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from eru.engine.contract import Capability, Engine
from eru.engine.verbs import COROUTINES, STREAMS
from eru.model.errors import EngineError


class Unreachable:
    """Raises a fresh copy of the remembered error from every call.

    `capabilities` are all, so that callers get the true reason instead of
    "not supported".
    """

    capabilities = frozenset(Capability)
    type = ""

    def __init__(self, error: EngineError) -> None:
        self.error = error

    async def close(self) -> None:
        """Nothing is open."""

    def __getattr__(self, name: str) -> Any:
        if name in COROUTINES:
            return self._fail
        if name in STREAMS:
            return self._fail_stream
        raise AttributeError(name)

    async def _fail(self, *_: object, **__: object) -> Any:
        raise type(self.error)(str(self.error)) from self.error

    async def _fail_stream(self, *_: object, **__: object) -> AsyncIterator[Any]:
        await self._fail()
        yield


def unreachable(error: EngineError) -> Engine:
    """An engine whose every call raises `error`."""
    return cast(Engine, Unreachable(error))
