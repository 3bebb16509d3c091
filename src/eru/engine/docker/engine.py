"""The Docker engine, put together, and how it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import msgspec
import structlog

from eru.engine.contract import Capability, EngineEvent
from eru.engine.docker.address import parse_address, tls_context
from eru.engine.docker.calls import filters
from eru.engine.docker.http import DockerHttp, json_objects
from eru.engine.docker.images import Images
from eru.engine.docker.inside import Inside
from eru.engine.docker.life import Life
from eru.engine.docker.networks import Networks
from eru.engine.docker.settings import DockerSettings
from eru.engine.pool import Opening
from eru.engine.times import unix_text
from eru.model.errors import InvalidInput
from eru.model.nodes import EngineInfo

_log = structlog.get_logger(__name__)


class DockerEngine(Life, Inside, Images, Networks):
    """A handle on one Docker daemon."""

    capabilities: frozenset[Capability] = frozenset(Capability)
    type = "docker"

    async def info(self) -> EngineInfo:
        found = await self._read("/info")
        self._ncpu = int(found.get("NCPU") or 0)
        return EngineInfo(
            type=self.type,
            id=str(found.get("ID") or ""),
            ncpu=self._ncpu,
            memory=int(found.get("MemTotal") or 0),
            version=str(found.get("ServerVersion") or ""),
        )

    async def ping(self) -> None:
        await self._http.negotiate()

    async def close(self) -> None:
        await self._http.close()

    async def events(self, labels: Mapping[str, str], since_ns: int = 0) -> AsyncIterator[EngineEvent]:
        wanted = [f"{name}={value}" if value else name for name, value in sorted(labels.items())]
        query = {"filters": filters(type=["container"], label=wanted)}
        if since_ns:
            query["since"] = unix_text(since_ns)
        async with self._http.stream("GET", "/events", query=query) as chunks:
            async for found in json_objects(chunks):
                actor = found.get("Actor") or {}
                yield EngineEvent(
                    id=str(actor.get("ID") or found.get("id") or ""),
                    action=str(found.get("Action") or found.get("status") or ""),
                    time_ns=int(found.get("timeNano") or 0),
                    labels=actor.get("Attributes") or {},
                )

    async def raw(self, id: str, op: str, params: bytes) -> bytes:
        """`inspect`, `top`, `stats`, `changes`: Docker's own JSON; `signal`: params {"signal": "HUP"}."""
        paths = {"inspect": "json", "top": "top", "stats": "stats", "changes": "changes"}
        if op in paths:
            query = {"stream": "0", "one-shot": "1"} if op == "stats" else {}
            return msgspec.json.encode(await self._read(f"/containers/{id}/{paths[op]}", **query))
        if op == "signal":
            try:
                signal = str(msgspec.json.decode(params or b"{}")["signal"])
            except (msgspec.DecodeError, KeyError, TypeError):
                raise InvalidInput('raw engine op signal needs params like {"signal": "HUP"}') from None
            await self._change("POST", f"/containers/{id}/kill", signal=signal)
            return b"{}"
        raise InvalidInput(f"raw engine op {op!r} is unknown to docker, expected one of {', '.join(paths)}, signal")


async def open_docker(opening: Opening, settings: DockerSettings) -> DockerEngine:
    """Connect and agree on an API version. Raises EngineUnreachable with the reason and next step."""
    context = tls_context(opening.tls, settings.tls_check_hostname)
    address = parse_address(opening.endpoint, tls=context is not None)
    if context is not None and not settings.tls_check_hostname:
        _log.warning("the host name in Docker's certificate is not checked", endpoint=opening.endpoint)
    http = DockerHttp(address, context, opening.connect_timeout_s, settings.calls_parallel_max, opening.broken)
    try:
        await http.negotiate()
    except BaseException:
        await http.close()
        raise
    return DockerEngine(opening.world, http, opening.limits, settings)
