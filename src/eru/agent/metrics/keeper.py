"""Samples every running workload once per step and keeps the latest figures for whoever asks.

One task walks through all workloads, a few at a time between pauses, so that
a round is spread and never holds up logs or heartbeats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import structlog

from eru.agent.logs.forwards import fnv1a_32
from eru.agent.metrics.figures import Figure, figures
from eru.agent.metrics.sources import Cgroup, Host, Moment, Sample, find_cgroup, read_sample
from eru.agent.metrics.statsd import Statsd
from eru.agent.notices import Notices
from eru.agent.workloads import Workload
from eru.lib.world import World

AT_A_TIME = 8  # workloads sampled without giving others a turn
_LABEL_UNSAFE = re.compile(r'[\\"\n]')
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}

_log = structlog.get_logger(__name__)


class _Tracked(msgspec.Struct):
    workload: Workload
    labels: str
    statsd_prefix: str
    cgroup: Cgroup | None = None
    last: Sample | None = None
    figures: list[Figure] = []
    failures: int = 0


class MetricsKeeper:
    """`step_s`: seconds between two samples of one workload."""

    def __init__(
        self, world: World, host: Host, notices: Notices, hostname: str, step_s: float, statsd: list[Statsd]
    ) -> None:
        self._world = world
        self._host = host
        self._notices = notices
        self._hostname = hostname.replace(".", "-")
        self._step_s = step_s
        self._statsd = statsd
        self._tracked: dict[str, _Tracked] = {}
        self.failures_total = 0

    def started(self, workload: Workload) -> None:
        """Take a first sample now, so that figures are there one step later; series of an earlier run go on."""
        tracked = _Tracked(workload, self._labels(workload), self._statsd_prefix(workload))
        if (before := self._tracked.get(workload.id)) is not None:
            tracked.figures = before.figures
        self._tracked[workload.id] = tracked
        self._sample(tracked, self._moment())

    def stopped(self, workload: Workload) -> None:
        """No workload, no series."""
        self._tracked.pop(workload.id, None)

    def __len__(self) -> int:
        return len(self._tracked)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            began = self._world.clock.monotonic()
            moment: Moment | None = None
            for index, tracked in enumerate(list(self._tracked.values())):
                if self._tracked.get(tracked.workload.id) is tracked:
                    moment = moment if moment is not None and index % AT_A_TIME else self._moment()
                    self._sample(tracked, moment)
                if index % AT_A_TIME == AT_A_TIME - 1:
                    await self._world.clock.sleep(self._step_s / 4 * AT_A_TIME / max(len(self._tracked), AT_A_TIME))
            spent = self._world.clock.monotonic() - began
            await self._world.clock.sleep(max(self._step_s - spent, 0.05))

    def exposition(self) -> Iterator[str]:
        """Lines of the Prometheus text format, series of one name together."""
        by_name: dict[str, list[str]] = {}
        for tracked in self._tracked.values():
            for figure in tracked.figures:
                extra = f',{figure.label}="{_escaped(figure.part)}"' if figure.label else ""
                line = f"{figure.name}{{{tracked.labels}{extra}}} {number(figure.value)}"
                by_name.setdefault(figure.name, []).append(line)
        for name in sorted(by_name):
            yield f"# TYPE {name} gauge"
            yield from by_name[name]

    def _moment(self) -> Moment:
        return Moment(self._host, self._world.clock.monotonic())

    def _sample(self, tracked: _Tracked, moment: Moment) -> None:
        workload = tracked.workload
        try:
            if tracked.cgroup is None:
                tracked.cgroup = find_cgroup(self._host, workload.pid, workload.id)
            now = read_sample(moment, tracked.cgroup, workload.pid)
        except (OSError, ValueError, IndexError) as error:
            self.failures_total += 1
            tracked.failures += 1
            if workload.running and tracked.failures > 1:  # the first may be a workload that has just ended
                self._notices.trouble(
                    "metrics",
                    "figures of a workload cannot be read, trying on",
                    workload=workload.id[:12],
                    app=workload.app,
                    error=str(error),
                )
            return
        tracked.failures = 0
        if tracked.last is not None and (made := figures(self._host, tracked.last, now)):
            tracked.figures = made
            self._push(tracked)
        tracked.last = now

    def _push(self, tracked: _Tracked) -> None:
        if not self._statsd:
            return
        target = self._statsd[fnv1a_32(tracked.workload.id) % len(self._statsd)]
        for figure in tracked.figures:
            target.gauge(f"{tracked.statsd_prefix}.{figure.statsd_name or figure.name}", figure.value)
        target.flush()

    def _labels(self, workload: Workload) -> str:
        own = ",".join(f"{k}={v}" for k, v in sorted(workload.labels.items()) if not k.startswith("ERU"))
        pairs = {
            "containerID": workload.id,
            "hostname": self._hostname,
            "appname": workload.app,
            "entrypoint": workload.entrypoint,
            "orchestrator": "ERU",
            "labels": own,
        }
        return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items())

    def _statsd_prefix(self, workload: Workload) -> str:
        return f"ERU.{workload.app}.{workload.entrypoint}.{self._hostname}.{workload.id[-7:]}"


def number(value: float) -> str:
    """The shortest text of a number, whole ones without a fraction."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _escaped(text: str) -> str:
    return _LABEL_UNSAFE.sub(lambda found: _ESCAPES[found[0]], text)
