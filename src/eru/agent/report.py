"""Tells core the status of workloads: only changes, in batches, every flip of `running` in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from eru.agent.notices import Notices
from eru.agent.workloads import Workload
from eru.lib.retry import Backoff
from eru.lib.world import World
from eru.model.errors import CoreUnreachable, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient

BATCH_MAX = 100  # statuses per call
STEPS_MAX = 8  # unreported changes remembered per workload; older ones in between are dropped
REFUSED_FIRST_S = 0.1  # pause before a refused status is offered again, doubling
REFUSED_MOST_S = 60.0
UNREACHABLE_MOST_S = 5.0
CORE_NOTICE = "core"
DEADLINE_EXCEEDED = 4


def status_of(workload: Workload, nodename: str) -> pb.WorkloadStatus:
    """The status as published agents send it, with all networks.

    The entrypoint is left out, as they do: then every core, also a published
    one, first checks that it knows the workload. Neither can a late report
    bring back the status of one just removed, nor does core keep statuses of
    what another cluster runs on the same engine.
    """
    return pb.WorkloadStatus(
        id=workload.id,
        running=workload.running,
        healthy=workload.healthy and workload.running,
        networks=workload.networks if workload.running else {},
        extension=workload.extension,
        ttl=0,
        appname=workload.app,
        nodename=nodename,
    )


class _Refused:
    """Why and until when a status waits after core refused it."""

    def __init__(self) -> None:
        self.until = 0.0
        self.pause_s = REFUSED_FIRST_S


class Reporter:
    """Holds what core should know and brings it there. `cache_ttl_s`: an unchanged status is confirmed so often."""

    def __init__(
        self, world: World, core: CoreClient, notices: Notices, nodename: str, timeout_s: float, cache_ttl_s: float
    ) -> None:
        self._world = world
        self._core = core
        self._notices = notices
        self._nodename = nodename
        self._timeout_s = timeout_s
        self._cache_ttl_s = cache_ttl_s
        self._told: dict[str, tuple[bytes, float]] = {}  # id -> (status text, when to confirm it)
        self._steps: dict[str, list[pb.WorkloadStatus]] = {}
        self._refused: dict[str, _Refused] = {}
        self._current: dict[str, pb.WorkloadStatus] = {}
        self._wake = asyncio.Event()
        self.sent_total = 0
        self.failed_total = 0
        self.on_unreachable: Callable[[], None] = lambda: None

    def update(self, workload: Workload) -> None:
        """Report what changed of this workload."""
        status = status_of(workload, self._nodename)
        self._current[workload.id] = status
        steps = self._steps.get(workload.id)
        if steps:
            if steps[-1].running == status.running:
                steps[-1] = status
            else:
                steps.append(status)
                del steps[1 : max(1, len(steps) - STEPS_MAX + 1)]
        elif self._text(status) != self._told.get(workload.id, (b"", 0.0))[0]:
            self._steps[workload.id] = [status]
        self._wake.set()

    def forget(self, id: str) -> None:
        """The workload is gone: nothing may be reported any more."""
        for kept in (self._current, self._steps, self._told, self._refused):
            kept.pop(id, None)

    def resend_all(self) -> None:
        """Core may have other ideas by now: report everything again at once."""
        self._refused.clear()
        for id, status in self._current.items():
            self._steps.setdefault(id, [status])
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Workloads with something unreported."""
        return len(self._steps)

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(self._world, first_s=0.1, most_s=UNREACHABLE_MOST_S)
        while True:
            self._confirm_old()
            batch = self._batch()
            if not batch:
                await self._idle()
                continue
            try:
                await self._send(batch)
            except CoreUnreachable as error:
                self.failed_total += 1
                self.on_unreachable()
                self._notices.trouble(CORE_NOTICE, "core cannot be reached, status reports wait", error=str(error))
                await backoff.wait()
            else:
                backoff.reset()

    async def flush(self) -> None:
        """One last try for what waits; errors are ignored because the agent is leaving."""
        while batch := self._batch():
            try:
                await self._send(batch)
            except CoreUnreachable:
                return

    async def _send(self, batch: list[pb.WorkloadStatus]) -> None:
        if await self._offer(batch) or len(batch) == 1:
            return
        half = len(batch) // 2  # one bad status must hold back no others, and not make a call for each of them
        await self._send(batch[:half])
        await self._send(batch[half:])

    async def _offer(self, batch: list[pb.WorkloadStatus]) -> bool:
        """Whether core took the batch. A refusal of a single status makes it wait. Raises CoreUnreachable."""
        try:
            await self._core.unary(
                rpc.SetWorkloadsStatus, pb.SetWorkloadsStatusOptions(status=batch), timeout_s=self._timeout_s
            )
        except CoreUnreachable:
            raise
        except RemoteError as error:
            if error.code == DEADLINE_EXCEEDED:
                raise CoreUnreachable(str(error), rpc=error.rpc, code=error.code) from error
            self.failed_total += 1
            if len(batch) == 1:
                self._refuse(batch[0], error)
            return False
        self._notices.over(CORE_NOTICE, "core takes status reports again")
        now = self._world.clock.monotonic()
        self.sent_total += len(batch)
        for status in batch:
            self._took(status, now)
        return True

    def _took(self, status: pb.WorkloadStatus, now: float) -> None:
        id = status.id
        if id not in self._current:
            return
        self._told[id] = (self._text(status), now + self._world.jitter(self._cache_ttl_s, 0.125))
        self._refused.pop(id, None)
        steps = self._steps.get(id, [])
        if status in steps[:1]:
            del steps[0]
        if not steps:
            self._steps.pop(id, None)

    def _refuse(self, status: pb.WorkloadStatus, error: RemoteError) -> None:
        refused = self._refused.setdefault(status.id, _Refused())
        refused.until = self._world.clock.monotonic() + refused.pause_s
        refused.pause_s = min(refused.pause_s * 2, REFUSED_MOST_S)
        if refused.pause_s > 2.0:  # a core that has not recorded a fresh deploy yet is no trouble
            self._notices.trouble(
                "refused",
                "core refuses the status of a workload, it is offered again later",
                workload=status.id[:12],
                app=status.appname,
                error=str(error),
            )

    def _batch(self) -> list[pb.WorkloadStatus]:
        now = self._world.clock.monotonic()
        ready = (id for id in self._steps if id not in self._refused or self._refused[id].until <= now)
        return [self._steps[id][0] for id, _ in zip(ready, range(BATCH_MAX), strict=False)]

    def _confirm_old(self) -> None:
        now = self._world.clock.monotonic()
        for id, (_, confirm_at) in self._told.items():
            if confirm_at <= now and id in self._current:
                self._steps.setdefault(id, [self._current[id]])

    async def _idle(self) -> None:
        self._wake.clear()
        now = self._world.clock.monotonic()
        waits = [refused.until - now for id, refused in self._refused.items() if id in self._steps]
        waits.append(self._cache_ttl_s / 16)
        try:
            async with asyncio.timeout(max(min(waits), 0.01)):
                await self._wake.wait()
        except TimeoutError:
            pass

    @staticmethod
    def _text(status: pb.WorkloadStatus) -> bytes:
        return status.SerializeToString(deterministic=True)
