"""The agent's HTTP routes: /version/, /metrics, /log/, /profile/ as published, and /healthz."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

import msgspec

import eru
from eru.agent.http import Answer, HttpServer, Request
from eru.agent.logs.hub import Hub, Reader
from eru.agent.settings import ApiSettings

_JSON = "application/json"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
STREAMS = ("", "stdout", "stderr")


class Health(msgspec.Struct, frozen=True):
    """What /healthz says. `ok` false: the answer is 503."""

    ok: bool
    troubles: list[str] = []


class AgentApi:
    """`exposition`: lines of Prometheus text. `health`: asked for each /healthz."""

    def __init__(self, hub: Hub, exposition: Callable[[], Iterator[str]], health: Callable[[], Health]) -> None:
        self._hub = hub
        self._exposition = exposition
        self._health = health

    def server(self, token: str) -> HttpServer:
        routes = {
            "/version/": self._version,
            "/profile/": self._profile,
            "/log/": self._log,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
        }
        return HttpServer(routes, token, frozenset({"/healthz"}), frozenset({"/metrics", "/healthz"}))

    async def _version(self, request: Request) -> Answer:
        return Answer(body=b'{"version": "%b"}\n' % eru.__version__.encode(), content_type=_JSON)

    async def _profile(self, request: Request) -> Answer:
        counts = {
            "goroutine": len(asyncio.all_tasks()),
            "heap": len(gc.get_objects()),
            "allocs": sum(generation["collected"] for generation in gc.get_stats()),
            "threadcreate": threading.active_count(),
            "block": 0,
            "mutex": 0,
        }
        return Answer(body=msgspec.json.encode(counts) + b"\n", content_type=_JSON)

    async def _metrics(self, request: Request) -> Answer:
        return Answer(body=("\n".join(self._exposition()) + "\n").encode(), content_type=_PROMETHEUS)

    async def _healthz(self, request: Request) -> Answer:
        health = self._health()
        return Answer(200 if health.ok else 503, msgspec.json.encode(health) + b"\n", _JSON)

    async def _log(self, request: Request) -> Answer:
        app = request.query.get("app", "")
        stream = request.query.get("stream", "")
        if not app:
            return Answer(400)
        if stream not in STREAMS:
            return Answer(400, b"stream must be stdout or stderr\n", "text/plain; charset=utf-8")
        reader = Reader(app, request.query.get("entrypoint", ""), request.query.get("id", ""), stream)
        if not self._hub.join(reader):
            return Answer(503, b"too many readers\n", "text/plain; charset=utf-8")
        return Answer(stream=self._records(reader))

    async def _records(self, reader: Reader) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(reader.records()) as records:
                async for record in records:
                    yield record
        finally:
            self._hub.leave(reader)


def listen_address(settings: ApiSettings) -> tuple[str, int]:
    """(host, port). Without a host: loopback only, unless a token protects the routes."""
    host, _, port = settings.addr.rpartition(":")
    if not host:
        host = "0.0.0.0" if settings.token else "127.0.0.1"
    return host.strip("[]"), int(port)


def process_lines() -> Iterator[str]:
    """Memory, CPU, start and open files of this process, under the usual names."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = file.read().split()
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        started_ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/stat", encoding="ascii") as file:
        booted = next(int(line.split()[1]) for line in file if line.startswith("btime "))
    times = os.times()
    size = os.sysconf("SC_PAGE_SIZE")
    figures = {
        "process_resident_memory_bytes": int(pages[1]) * size,
        "process_virtual_memory_bytes": int(pages[0]) * size,
        "process_open_fds": len(os.listdir("/proc/self/fd")),
        "process_max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "process_start_time_seconds": booted + started_ticks / os.sysconf("SC_CLK_TCK"),
    }
    yield "# TYPE process_cpu_seconds_total counter"
    yield f"process_cpu_seconds_total {times.user + times.system}"
    for name, value in figures.items():
        yield f"# TYPE {name} gauge"
        yield f"{name} {value}"
