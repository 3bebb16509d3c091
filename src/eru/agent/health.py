"""Health of workloads: tcp, http and exec probes, evaluated at once after start, then spread over time.

One task sleeps until the next probe is due; probes run with a bound on how
many at the same time. A workload without a health check is healthy while it
runs and costs nothing here.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

import msgspec
import structlog

from eru.agent.docker_http import read_head
from eru.agent.runtime import Runtime
from eru.agent.workloads import HealthPlan, Workload
from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import EngineError

EARLY_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)  # pauses after a start until the first healthy result
REDIRECTS_MAX = 5

_log = structlog.get_logger(__name__)


class _Watched(msgspec.Struct):
    workload: Workload
    early: int = 0
    good: int = 0
    bad: int = 0
    probed: bool = False


class HealthKeeper:
    """Probes what it is given and calls `changed(workload)` when `workload.healthy` flips."""

    def __init__(self, world: World, runtime: Runtime, concurrency: int, changed: Callable[[Workload], None]) -> None:
        self._world = world
        self._runtime = runtime
        self._gate = asyncio.Semaphore(concurrency)
        self._changed = changed
        self._watched: dict[str, _Watched] = {}
        self._due: list[tuple[float, int, str, _Watched]] = []
        self._order = 0
        self._wake = asyncio.Event()
        self.probes_total = 0
        self.failures_total = 0

    def watch(self, workload: Workload) -> None:
        """Start with this run of a workload: the first probe is due now."""
        self.forget(workload.id)
        if workload.running and workload.health.probes:
            watched = self._watched[workload.id] = _Watched(workload)
            self._schedule(watched, 0.0)

    def forget(self, id: str) -> None:
        """Probe this one no more; a result under way is thrown away."""
        self._watched.pop(id, None)

    async def run(self) -> None:
        """Until cancelled."""
        owner = TaskOwner("health")
        try:
            while True:
                wait_s = self._due[0][0] - self._world.clock.monotonic() if self._due else None
                if wait_s is None or wait_s > 0:
                    self._wake.clear()
                    try:
                        async with asyncio.timeout(wait_s):
                            await self._wake.wait()
                    except TimeoutError:
                        pass
                    continue
                watched = heapq.heappop(self._due)[3]
                if self._is_current(watched):
                    await self._gate.acquire()
                    owner.start(watched.workload.id[:12], self._round(watched))
        finally:
            await owner.close()

    async def _round(self, watched: _Watched) -> None:
        try:
            healthy = await probe(self._runtime, watched.workload)
        finally:
            self._gate.release()
        self.probes_total += 1
        self.failures_total += not healthy
        if not self._is_current(watched):
            return
        self._judge(watched, healthy)
        self._schedule(watched, self._pause_s(watched))

    def _judge(self, watched: _Watched, healthy: bool) -> None:
        workload, plan = watched.workload, watched.workload.health
        watched.good, watched.bad = (watched.good + 1, 0) if healthy else (0, watched.bad + 1)
        flips = (not workload.healthy and watched.good >= plan.healthy_after) or (
            workload.healthy and watched.bad >= plan.unhealthy_after
        )
        if flips:
            workload.healthy = healthy
            self._changed(workload)
        watched.probed = True

    def _pause_s(self, watched: _Watched) -> float:
        """Quick tries until the first healthy result, then the interval with jitter so that rounds spread."""
        plan = watched.workload.health
        if not watched.workload.healthy and watched.early < len(EARLY_S):
            pause = EARLY_S[watched.early]
            watched.early += 1
            if pause < plan.interval_s:
                return pause
        watched.early = len(EARLY_S)
        return self._world.jitter(plan.interval_s, 0.1)

    def _schedule(self, watched: _Watched, pause_s: float) -> None:
        self._order += 1
        heapq.heappush(self._due, (self._world.clock.monotonic() + pause_s, self._order, watched.workload.id, watched))
        self._wake.set()

    def _is_current(self, watched: _Watched) -> bool:
        return self._watched.get(watched.workload.id) is watched


async def probe(runtime: Runtime, workload: Workload) -> bool:
    """Whether every declared probe of a running workload passes now."""
    plan = workload.health
    check = plan.check
    addresses = workload.addresses
    if check is not None and (check.tcp_ports or check.http_port) and not addresses:
        return False
    if check is not None and check.http_port:
        for address in addresses:
            if not await http_probe(address, check.http_port, check.http_url, check.http_code, plan.timeout_s):
                return False
    if check is not None:
        for port in check.tcp_ports:
            for address in addresses:
                if not await tcp_probe(address, port, plan.timeout_s):
                    return False
    return not plan.command or await exec_probe(runtime, workload.id, plan)


async def tcp_probe(address: str, port: str, timeout_s: float) -> bool:
    """Whether the port accepts. A port may be written `80/tcp`."""
    try:
        async with asyncio.timeout(timeout_s):
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, address, int(port.partition("/")[0])
            )
            transport.abort()
    except (OSError, ValueError, OverflowError):
        return False
    return True


async def http_probe(address: str, port: str, url: str, code: int, timeout_s: float) -> bool:
    """Whether a GET answers as expected: `code`, or 200 to 499 for 0. Redirects on the same host are followed."""
    target = url if url.startswith("/") else "/" + url
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(REDIRECTS_MAX):
                status, location = await _get(address, int(port.partition("/")[0]), target)
                if status not in (301, 302, 303, 307, 308) or not location.startswith("/"):
                    break
                target = location
    except (OSError, ValueError, OverflowError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False
    return status == code if code else 200 <= status < 500


async def exec_probe(runtime: Runtime, id: str, plan: HealthPlan) -> bool:
    """Whether the command inside the workload ends with 0 in time."""
    session = None
    try:
        async with asyncio.timeout(plan.timeout_s):
            session = await runtime.exec(id, plan.command)
            async for _ in session:
                pass
            return await session.exit_code() == 0
    except (EngineError, OSError, asyncio.IncompleteReadError):
        return False
    finally:
        if session is not None:
            await session.close()


async def _get(address: str, port: int, target: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        host = f"[{address}]" if ":" in address else address
        path = target.replace(" ", "%20").replace("\r", "").replace("\n", "")
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: eru-agent\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("utf-8"))
        head = await read_head(reader)
        return head.status, head.headers.get("location", "")
    finally:
        writer.transport.abort()
