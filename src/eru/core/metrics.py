"""Numbers about a core for Prometheus, and the small HTTP application that shows them.

Gauges of nodes are computed from the live view when somebody asks; nothing is
read from the store for it, and series of removed nodes are simply gone.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable, Iterator

import orjson
from aiohttp import web
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from eru.core.app import Core
from eru.core.debug import dump
from eru.core.metered import CallTimes
from eru.wire.server import RpcServer

_LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)


class CoreMetrics:
    """All metrics of one core; an observer of calls for `service.serve`."""

    def __init__(self, core: Core, hostname: str = "", times: CallTimes | None = None) -> None:
        self.hostname = (hostname or platform.node()).replace(".", "-")
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each that nobody reads
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(PLATFORM_COLLECTOR)
        self.registry.register(GC_COLLECTOR)
        self.registry.register(_OfNodes(core, self.hostname))
        self.registry.register(_OfCore(core, self.hostname))
        if times is not None:
            times.register(self.registry)
        self._running = Gauge("eru_rpc_running", "Calls under way.", ["rpc"], registry=self.registry)
        self._ended = Counter(
            "eru_rpc", "Calls that ended, by numeric status.", ["rpc", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "eru_rpc_seconds", "Time from request to end.", ["rpc"], buckets=_LATENCY_S, registry=self.registry
        )
        # Finding a series costs more than counting in it; calls and numbers are few.
        self._running_of = functools.cache(self._running.labels)
        self._ended_of = functools.cache(self._ended.labels)
        self._seconds_of = functools.cache(self._seconds.labels)

    def call_started(self, rpc: str) -> None:
        self._running_of(rpc).inc()

    def call_ended(self, rpc: str, number: int, seconds: float) -> None:
        self._running_of(rpc).dec()
        self._ended_of(rpc, str(number)).inc()
        self._seconds_of(rpc).observe(seconds)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


class _OfNodes(Collector):
    """Published gauges: what the resource kinds tell of every node, and which nodes are up."""

    def __init__(self, core: Core, hostname: str) -> None:
        self._core = core
        self._hostname = hostname

    def describe(self) -> Iterable[Metric]:
        return []  # the names depend on the resource kinds

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        up = GaugeMetricFamily("pod_node_up", "Whether the node is up.", labels=["hostname", "podname", "nodename"])
        for found in self._core.fleet.view.nodes():
            if found.node is None:
                continue
            podname = found.node.podname
            up.add_metric([self._hostname, podname, found.name], float(found.up))
            for name, kind in self._core.kinds.items():
                capacity, usage = found.capacity.get(name, {}), found.usage.get(name, {})
                for gauge in kind.gauges(podname, found.name, capacity, usage):
                    family = families.get(gauge.name)
                    if family is None:
                        family = GaugeMetricFamily(gauge.name, gauge.help, labels=list(gauge.labels))
                        families[gauge.name] = family
                    family.add_metric(list(gauge.labels.values()), gauge.value)
        yield up
        yield from families.values()


class _OfCore(Collector):
    """What happens inside: commits, conflicts, queues, engines that do not answer."""

    def __init__(self, core: Core, hostname: str) -> None:
        self._core = core
        self._hostname = hostname

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        core = self._core
        # The published name has no `_total`, which this library would add to a counter.
        deployed = Metric("core_deploy", "Instances deployed, ever growing.", "unknown")
        deployed.add_sample("core_deploy", {"hostname": self._hostname}, float(core.deployed))
        yield deployed
        counters = core.committer.counters
        for name, help_text, value in (
            ("eru_store_transactions", "Transactions sent to the store.", counters.transactions),
            ("eru_store_changes", "Changes that took effect.", counters.changes),
            ("eru_store_conflicts", "Transactions that lost a race.", counters.conflicts),
            ("eru_store_unanswered", "Transactions whose answer got lost.", counters.unknown),
            ("eru_sweeps", "Left-over intents that were settled here.", core.recovery.swept),
            ("eru_remaps", "Workloads moved to the cores that are free.", core.remapper.updated),
            ("eru_remap_failures", "Workloads that their engine did not move.", core.remapper.failed),
            ("eru_events_dropped", "Events that a slow client of a deploy missed.", core.events.progress_dropped),
            ("eru_view_rebuilds", "Times the live view was read anew.", core.fleet.rebuilds),
        ):
            counter = CounterMetricFamily(name, help_text)
            counter.add_metric([], float(value))
            yield counter
        told = CounterMetricFamily("eru_events", "What was told of workloads and nodes.", labels=["kind"])
        for kind, many in core.events.counts.items():
            told.add_metric([kind], float(many))
        yield told
        for name, help_text, value in (
            ("eru_store_queue", "Changes that wait to be sent to the store.", core.committer.waiting),
            ("eru_operations_active", "Operations that write intents right now.", len(core.active)),
            ("eru_background_tasks", "Work that goes on after its call has ended.", len(core.background.names())),
            ("eru_intents", "Intents in the store, of all cores.", len(core.fleet.view.intents)),
            ("eru_view_revision", "Revision of the live view.", core.fleet.revision),
            ("eru_engines_unreachable", "Nodes whose engine does not answer.", len(core.engines.unreachable_nodes())),
        ):
            gauge = GaugeMetricFamily(name, help_text)
            gauge.add_metric([], float(value))
            yield gauge


def admin_app(core: Core, metrics: CoreMetrics, server: RpcServer) -> web.Application:
    """`/metrics`, `/healthz`, `/readyz` and `/debug`; meant for loopback or a protected network."""

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        if core.ready and server.serving:
            return web.Response(text="ready\n")
        reason = "not registered in the store" if server.serving and not core.draining else "shutting down"
        return web.Response(status=503, text=f"not ready: {reason}\n")

    async def debug(_: web.Request) -> web.Response:
        return web.Response(
            body=orjson.dumps(dump(core, server), option=orjson.OPT_INDENT_2), content_type="application/json"
        )

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", show_metrics),
            web.get("/healthz", healthy),
            web.get("/readyz", ready),
            web.get("/debug", debug),
        ]
    )
    return app
