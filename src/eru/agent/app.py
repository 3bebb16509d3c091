"""One agent process: builds the parts, connects them, and takes them down in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import structlog

import eru
from eru.agent.api import AgentApi, Health, listen_address, process_lines
from eru.agent.docker import DockerRuntime
from eru.agent.health import HealthKeeper
from eru.agent.heartbeat import Heartbeat
from eru.agent.http import HttpServer
from eru.agent.logs.forwards import Forwards
from eru.agent.logs.hub import Hub
from eru.agent.logs.keeper import LogKeeper
from eru.agent.metrics.keeper import MetricsKeeper
from eru.agent.metrics.sources import Host
from eru.agent.metrics.statsd import Statsd
from eru.agent.notices import Notices
from eru.agent.report import Reporter
from eru.agent.settings import AgentSettings, TlsSettings
from eru.agent.state import PidFile, StateDir
from eru.agent.vanished import report_vanished
from eru.agent.watch import Watcher
from eru.agent.workloads import MineFilter, Workload
from eru.lib.retry import Backoff
from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import InvalidInput
from eru.wire.channel import CoreClient, connect
from eru.wire.client_tls import ClientTLS

FLUSH_S = 5.0  # for records on their way when the agent stops
FAREWELL_S = 2.0  # for the last reports
SEEN_EVERY_S = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1)
RECONCILE_LEAST_S = 5.0
LISTEN_MOST_S = 5.0  # between two tries to have the address of the API

_log = structlog.get_logger(__name__)


async def run_agent(settings: AgentSettings, world: World) -> int:
    """Run until a signal; the exit code. INT, TERM and QUIT say farewell to core, USR1 leaves silently.

    Raises InvalidInput for what makes a start senseless (state, pid file).
    """
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[signal.Signals] = loop.create_future()

    def on_signal(number: signal.Signals) -> None:
        if not asked.done():
            asked.set_result(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    pid = PidFile(settings.pid)
    try:
        state = StateDir(settings.state_dir)
        await state.claim(world)
        with contextlib.closing(state):
            if not await pid.claim(world):
                settings.remarks.append(f"pid file {settings.pid} belongs to another running agent, this one has none")
            await _until_asked(Agent(settings, world, state), asked)
    finally:
        pid.remove()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
    return 0


async def _until_asked(agent: Agent, asked: asyncio.Future[signal.Signals]) -> None:
    try:
        await agent.start()
        number = await asked
        _log.info("agent stops", signal=number.name)
        await agent.close(farewell=number is not signal.SIGUSR1)
    except BaseException:
        await agent.close(farewell=False)
        raise


class Agent:
    """The composition. Follows the watcher and tells the keepers."""

    def __init__(self, settings: AgentSettings, world: World, state: StateDir) -> None:
        self.settings = settings
        self.world = world
        self.notices = Notices(world)
        self.state = state
        self.runtime = DockerRuntime(settings.docker, settings.timeout_s)
        self.core = _core_client(settings, world)
        self.hub = Hub()
        self.forwards = Forwards(settings.log, settings.hostname, self.state.path, world, self.notices)
        self.logs = LogKeeper(
            world,
            self.runtime,
            self.forwards,
            self.hub,
            self.notices,
            self.state.path,
            settings.log.line_max_bytes(),
            settings.in_container,
            self._before_start,
        )
        self.host = Host(proc=settings.proc_root)
        self._owner = TaskOwner("agent")
        self.statsd = [Statsd(target, world, self._owner, self.notices) for target in settings.metrics.transfers]
        self.metrics = MetricsKeeper(
            world, self.host, self.notices, settings.hostname, settings.metrics.step, self.statsd
        )
        self.reporter = Reporter(
            world, self.core, self.notices, settings.hostname, settings.timeout_s, settings.healthcheck.cache_ttl
        )
        self.health = HealthKeeper(world, self.runtime, settings.healthcheck.concurrency, self.reporter.update)
        self.heartbeat = Heartbeat(settings, world, self.core, self.runtime, self.notices, self.reporter.resend_all)
        self.reporter.on_unreachable = self.heartbeat.suspect
        self.mine = MineFilter(
            hostname=settings.hostname, only_mine=settings.check_only_mine, by_label=settings.filter_by_label
        )
        self.watcher = Watcher(
            world,
            self.runtime,
            self.notices,
            self.mine,
            self,
            interval_s=settings.healthcheck.interval,
            timeout_s=settings.healthcheck.timeout,
            period_s=max(settings.healthcheck.interval, RECONCILE_LEAST_S),
            call_timeout_s=settings.timeout_s,
        )
        self._began = world.clock.now()
        self.api_port = 0
        self._server: HttpServer | None = None

    async def start(self) -> None:
        """Everything runs when this returns; core or engine may still be away."""
        _log.info("agent starts", version=eru.__version__, settings=self.settings.masked())
        for remark in self.settings.remarks:
            _log.warning(remark)
        if self.settings.unknown_keys:
            _log.warning("config keys are unknown and ignored", keys=self.settings.unknown_keys)
        if self.state.complaint:
            _log.warning("log cursors and spools will not survive a restart", reason=self.state.complaint)
        self.host.learn()
        await self._start_api()
        await self.forwards.start()
        await self.core.__aenter__()
        self._owner.start("health", self.health.run())
        self._owner.start("metrics", self.metrics.run())
        self._owner.start("core", self._with_core())
        self._owner.start("watch", self.watcher.run(self.state.last_seen()))
        self._owner.start("seen", self._keep_seen())

    async def close(self, farewell: bool) -> None:
        """Say goodbye if asked, stop reading, flush what is on its way."""
        if farewell:
            try:
                async with asyncio.timeout(self.settings.timeout_s):
                    await self.heartbeat.farewell()
            except TimeoutError:
                _log.warning("farewell did not reach core in time")
        await self._owner.close()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self.reporter.flush()
        except TimeoutError:
            pass
        await self.logs.close()
        await self.forwards.close(FLUSH_S)
        if self._server is not None:
            await self._server.close()
        await self.core.close()
        await self.runtime.close()
        for target in self.statsd:
            target.close()

    # Follower of the watcher.

    def created(self, workload: Workload) -> None:
        self.logs.created(workload)

    def starting(self, id: str, event_ns: int, attached: bool) -> None:
        self.logs.starting(id, event_ns, attached)

    def started(self, workload: Workload, fresh: bool) -> None:
        self.logs.started(workload, fresh)
        self.metrics.started(workload)
        self.health.watch(workload, fresh and workload.started_at >= self._began)
        self._report_decided(workload)

    def changed(self, workload: Workload) -> None:
        self.logs.changed(workload)
        self._report_decided(workload)

    def _report_decided(self, workload: Workload) -> None:
        """Report it, unless its first probe will: a restart of the agent must not make healthy workloads flap."""
        if not self.health.undecided(workload.id):
            self.reporter.update(workload)

    def stopped(self, workload: Workload, missed_run: bool) -> None:
        self.reporter.update(workload)
        self.health.forget(workload.id)
        self.metrics.stopped(workload)
        self.logs.stopped(workload, missed_run)

    def gone(self, workload: Workload) -> None:
        self.reporter.forget(workload.id)
        self.health.forget(workload.id)
        self.metrics.stopped(workload)
        self.logs.gone(workload)

    async def _before_start(self, id: str) -> Workload | None:
        return await self.watcher.before_start(id)

    # Background.

    async def _with_core(self) -> None:
        """What can only be done once core knows this node."""
        registration = await self.heartbeat.registration()
        self.watcher.set_node_ip(registration.node_ip)
        if self.mine.only_mine and self.mine.by_label:
            self.mine.core_id = await self.heartbeat.core_identifier()
        self._owner.start("reports", self.reporter.run())
        self._owner.start("vanished", self._vanished())
        await self.heartbeat.run()

    async def _vanished(self) -> None:
        await self.watcher.ready.wait()
        settings = self.settings
        await report_vanished(
            self.world, self.core, self.runtime, settings.hostname, self.watcher.workloads, settings.timeout_s
        )

    async def _keep_seen(self) -> None:
        """Remember on disk up to when everything was seen, and clean up once after the first full listing."""
        await self.watcher.ready.wait()
        self.logs.forget_unknown(set(self.watcher.workloads))
        while True:
            self.state.set_last_seen(self.watcher.last_seen)
            await self.world.clock.sleep(SEEN_EVERY_S)

    async def _start_api(self) -> None:
        """Serve the routes; while their address cannot be had, everything else works."""
        if not self.settings.api.addr:
            return
        host, port = listen_address(self.settings.api)
        self._server = AgentApi(self.hub, self._exposition, self._health).server(self.settings.api.token)
        if not await self._listens(self._server, host, port):
            self._owner.start("api", self._listen_later(self._server, host, port))

    async def _listen_later(self, server: HttpServer, host: str, port: int) -> None:
        backoff = Backoff(self.world, first_s=0.5, most_s=LISTEN_MOST_S)
        await backoff.wait()
        while not await self._listens(server, host, port):
            await backoff.wait()

    async def _listens(self, server: HttpServer, host: str, port: int) -> bool:
        try:
            self.api_port = await server.start(host, port)
        except OSError as error:
            self.notices.trouble(
                "api",
                "api.addr cannot be listened on, routes and figures are not served, trying on",
                address=self.settings.api.addr,
                error=error.strerror or str(error),
            )
            return False
        self.notices.over("api", "api.addr is listened on", address=self.settings.api.addr)
        return True

    def _health(self) -> Health:
        troubles = self.notices.current()
        bad = {"core", "engine", "heartbeat", "registration"}.intersection(troubles)
        return Health(ok=self.watcher.ready.is_set() and not bad, troubles=troubles)

    def _exposition(self) -> Iterator[str]:
        yield from self.metrics.exposition()
        yield from process_lines()
        logs = self.logs.counts
        counters = {
            "log_lines": logs.lines,
            "log_bytes": logs.bytes,
            "log_lines_split": logs.split,
            "log_lines_replayed": logs.replayed,
            "log_unjoined": logs.unjoined,
            "log_attaches": logs.attaches,
            "log_discarded": self.forwards.discarded,
            "log_leftovers_moved": self.forwards.leftovers.moved,
            "log_leftovers_dropped": self.forwards.leftovers.dropped,
            "log_readers_dropped": self.hub.dropped_total,
            "log_stdout_dropped": self.forwards.stdout.dropped if self.forwards.stdout else 0,
            "status_sent": self.reporter.sent_total,
            "status_failed": self.reporter.failed_total,
            "heartbeats": self.heartbeat.beats_total,
            "heartbeat_failures": self.heartbeat.failures_total,
            "health_probes": self.health.probes_total,
            "health_probe_failures": self.health.failures_total,
            "event_gaps": self.watcher.gaps_total,
            "metrics_failures": self.metrics.failures_total,
            "statsd_packets": sum(target.sent_total for target in self.statsd),
            "statsd_failures": sum(target.failed_total for target in self.statsd),
        }
        for name, value in counters.items():
            yield f"# TYPE eru_agent_{name}_total counter"
            yield f"eru_agent_{name}_total {value}"
        gauges = {
            "workloads": len(self.watcher.workloads),
            "workloads_running": sum(w.running for w in self.watcher.workloads.values()),
            "status_waiting": self.reporter.waiting,
            "log_pumps": len(self.logs),
            "log_readers": len(self.hub),
        }
        for name, value in gauges.items():
            yield f"# TYPE eru_agent_{name} gauge"
            yield f"eru_agent_{name} {value}"
        yield from self._forward_lines()

    def _forward_lines(self) -> Iterator[str]:
        lanes = self.forwards.live
        for name in ("records", "bytes", "dropped", "spooled", "repeated", "connects"):
            if lanes:
                yield f"# TYPE eru_agent_forward_{name}_total counter"
            for lane in lanes:
                yield f'eru_agent_forward_{name}_total{{forward="{lane.name}"}} {getattr(lane.counts, name)}'
        for lane in lanes:
            yield f'eru_agent_forward_up{{forward="{lane.name}"}} {int(lane.up)}'
            yield f'eru_agent_forward_spool_bytes{{forward="{lane.name}"}} {lane.spool.size}'


def _core_client(settings: AgentSettings, world: World) -> CoreClient:
    return connect(
        settings.core,
        world=world,
        username=settings.auth.username,
        password=settings.auth.password,
        tls=_client_tls(settings.core_tls),
        connect_timeout_s=settings.timeout_s,
        call_timeout_s=settings.timeout_s,
    )


def _client_tls(tls: TlsSettings) -> ClientTLS | None:
    if not tls.ca and not tls.cert:
        return None
    try:
        return ClientTLS(
            ca=Path(tls.ca).read_bytes() if tls.ca else b"",
            cert=Path(tls.cert).read_bytes() if tls.cert else b"",
            key=Path(tls.key).read_bytes() if tls.key else b"",
        )
    except OSError as error:
        raise InvalidInput(f"core_tls file cannot be read: {error}") from error
