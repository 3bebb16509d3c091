"""What the parts of the Docker engine share: the connection and what was agreed on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from eru.engine.contract import EngineLimits, Progress
from eru.engine.docker.http import DockerHttp, json_objects
from eru.engine.docker.settings import DockerSettings
from eru.lib.world import World


class Calls:
    """Base of the engine's parts."""

    def __init__(self, world: World, http: DockerHttp, limits: EngineLimits, settings: DockerSettings) -> None:
        self._world, self._http, self._limits, self._settings = world, http, limits, settings
        self._starts = asyncio.Semaphore(limits.start_parallel_max)
        self._ncpu = 0
        self._own_quota: dict[str, int] = {}  # of containers created for a start burst, until they are started

    async def _read(self, path: str, **query: Any) -> Any:
        return await self._http.call("GET", path, query=query or None, timeout_s=self._settings.read_timeout_s)

    async def _change(self, method: str, path: str, *, body: Any = None, timeout_s: float = 0.0, **query: Any) -> Any:
        return await self._http.call(
            method,
            path,
            query=query or None,
            body=body,
            effect=True,
            timeout_s=timeout_s or self._settings.change_timeout_s,
        )


def filters(**wanted: list[str]) -> str:
    """Docker's filter parameter."""
    return msgspec.json.encode({name: values for name, values in wanted.items() if values}).decode()


async def progress(chunks: AsyncIterator[bytes]) -> AsyncIterator[Progress]:
    """Docker's progress objects; a failure inside the stream has `error` set."""
    async for found in json_objects(chunks):
        detail = found.get("errorDetail") or {}
        code = detail.get("code")
        yield Progress(
            id=str(found.get("id") or ""),
            status=str(found.get("status") or ""),
            progress=str(found.get("progress") or ""),
            stream=str(found.get("stream") or ""),
            error=str(found.get("error") or detail.get("message") or ""),
            error_code=code if isinstance(code, int) else 0,
        )
