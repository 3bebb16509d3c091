"""Health of workloads: tcp, http and exec probes, evaluated at once after start, then spread over time.

One task sleeps until the next probe is due; probes run with a bound on how
many at the same time. A workload without a health check is healthy while it
runs and costs nothing here.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable

import msgspec
import structlog

from eru.agent.probes import PortsCheck, ports_only, probe
from eru.agent.runtime import Runtime
from eru.agent.workloads import Workload
from eru.lib.tasks import TaskOwner
from eru.lib.world import World

TOGETHER_S = 0.1  # probes that are due within so long are made together: waking up costs as much as a probe
TOGETHER_FROM_S = 1.0  # shorter pauses are kept exactly
EARLY_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)  # pauses after a start until the first healthy result

_log = structlog.get_logger(__name__)


class _Watched(msgspec.Struct):
    workload: Workload
    undecided: bool
    early: int = 0
    good: int = 0
    bad: int = 0


class HealthKeeper:
    """Probes what it is given and calls `changed(workload)` when `workload.healthy` flips."""

    def __init__(self, world: World, runtime: Runtime, concurrency: int, changed: Callable[[Workload], None]) -> None:
        self._world = world
        self._runtime = runtime
        self._gate = asyncio.Semaphore(concurrency)
        self._changed = changed
        self._watched: dict[str, _Watched] = {}
        self._due: list[tuple[float, int, str, _Watched]] = []
        self._checks: set[PortsCheck] = set()
        self._order = 0
        self._wake = asyncio.Event()
        self.probes_total = 0
        self.failures_total = 0

    def watch(self, workload: Workload, fresh: bool = True) -> None:
        """Start with this run of a workload: the first probe is due now.

        Of a run that is not `fresh` core knows something already: `changed` is
        called with the first result, good or bad, and until then `undecided`.
        """
        self.forget(workload.id)
        if workload.running and workload.health.probes:
            watched = self._watched[workload.id] = _Watched(workload, undecided=not fresh)
            self._schedule(watched, 0.0)

    def undecided(self, id: str) -> bool:
        """Whether the health of a run that began earlier is still to be found out."""
        watched = self._watched.get(id)
        return watched is not None and watched.undecided

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
                if not self._is_current(watched):
                    continue
                await self._gate.acquire()
                if targets := ports_only(watched.workload):
                    self._ask_ports(watched, targets)
                else:
                    owner.start(watched.workload.id[:12], self._round(watched))
        finally:
            while self._checks:
                self._checks.pop().cancel()
            await owner.close()

    async def _round(self, watched: _Watched) -> None:
        try:
            healthy = await probe(self._runtime, watched.workload)
        except BaseException:
            self._gate.release()
            raise
        self._known(watched, healthy)

    def _ask_ports(self, watched: _Watched, targets: list[tuple[str, str]]) -> None:
        def done(healthy: bool) -> None:
            self._checks.discard(check)
            self._known(watched, healthy)

        check = PortsCheck(targets, watched.workload.health.timeout_s, done)
        self._checks.add(check)
        check.start()

    def _known(self, watched: _Watched, healthy: bool) -> None:
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
        if watched.undecided:
            flips = healthy or watched.bad >= plan.unhealthy_after
            watched.undecided = not flips
        else:
            flips = (not workload.healthy and watched.good >= plan.healthy_after) or (
                workload.healthy and watched.bad >= plan.unhealthy_after
            )
        if flips:
            workload.healthy = healthy
            self._changed(workload)

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
        at = self._world.clock.monotonic() + pause_s
        if pause_s >= TOGETHER_FROM_S:
            at = math.ceil(at / TOGETHER_S) * TOGETHER_S
        heapq.heappush(self._due, (at, self._order, watched.workload.id, watched))
        self._wake.set()

    def _is_current(self, watched: _Watched) -> bool:
        return self._watched.get(watched.workload.id) is watched
