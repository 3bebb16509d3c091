"""The view of workloads, their health and their reports, on an engine and a core made of plain objects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from eru.agent.health import HealthKeeper
from eru.agent.notices import Notices
from eru.agent.probes import http_probe, tcp_probe
from eru.agent.report import Reporter
from eru.agent.watch import Watcher
from eru.agent.workloads import HealthPlan, MineFilter, Workload, health_plan, workload_of
from eru.engine.contract import EngineEvent, Inspection, Listed, Session
from eru.lib.world import real_world
from eru.model.errors import CoreUnreachable, EngineMissing, EngineUnreachable, InvalidInput, RemoteError
from eru.wire import core_pb2 as pb
from support.agent_node import until

WORLD = real_world()


class Engine:
    """Workloads by id; events are put in by the test."""

    type = "plain"

    def __init__(self) -> None:
        self.there: dict[str, Inspection] = {}
        self.queue: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self.lists = 0
        self.hung: set[str] = set()

    def put(self, id: str, *, running: bool = True, started_at: float | None = None, **more: Any) -> None:
        began = WORLD.clock.now() if started_at is None else started_at
        self.there[id] = Inspection(
            id=id, name=f"app_web_{id}", running=running, started_at=began, labels={"ERU": "1"},
            networks={"b": "10.0.0.2", "a": "10.0.0.1"} if running else {}, **more,
        )  # fmt: skip

    def tell(self, id: str, action: str) -> None:
        labels = {"ERU": "1", "name": f"app_web_{id}"}
        self.queue.put_nowait(EngineEvent(id=id, action=action, time_ns=WORLD.clock.now_ns(), labels=labels))

    async def ping(self) -> None: ...

    async def close(self) -> None: ...

    async def find(self, labels: Mapping[str, str], *, running_only: bool = False) -> list[Listed]:
        self.lists += 1
        return [Listed(id=i.id, name=i.name, running=i.running, labels=i.labels) for i in self.there.values()]

    async def inspect(self, id_or_name: str) -> Inspection:
        if id_or_name in self.hung:
            await asyncio.Event().wait()
        if id_or_name not in self.there:
            raise EngineMissing("gone")
        return self.there[id_or_name]

    async def events(self, labels: Mapping[str, str], since_ns: int = 0) -> AsyncIterator[EngineEvent]:
        yield EngineEvent(id="", action="subscribed", time_ns=0)
        while (event := await self.queue.get()) is not None:
            yield event
        raise EngineUnreachable("the stream broke")

    async def exec(self, id: str, commands: Sequence[str]) -> Session:
        raise EngineUnreachable("no commands here")


class Follower:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def created(self, workload: Workload) -> None:
        self.told.append(("created", workload.id))

    def starting(self, id: str, event_ns: int, attached: bool) -> None:
        self.told.append(("starting, heard" if attached else "starting", id))

    def started(self, workload: Workload, fresh: bool) -> None:
        self.told.append(("fresh" if fresh else "started", workload.id))

    def changed(self, workload: Workload) -> None:
        self.told.append(("changed", workload.id))

    def stopped(self, workload: Workload, missed_run: bool) -> None:
        self.told.append(("missed" if missed_run else "stopped", workload.id))

    def gone(self, workload: Workload) -> None:
        self.told.append(("gone", workload.id))


class Watched:
    """A watcher under way."""

    def __init__(self, engine: Engine, last_seen: float = 0.0, period_s: float = 100.0) -> None:
        self.engine, self.follower = engine, Follower()
        self.watcher = Watcher(
            WORLD, engine, Notices(WORLD), MineFilter(hostname="n"), self.follower,
            interval_s=1, timeout_s=1, period_s=period_s, call_timeout_s=0.3,
        )  # fmt: skip
        self._last_seen = last_seen

    async def __aenter__(self) -> Watched:
        self._task = asyncio.get_running_loop().create_task(self.watcher.run(self._last_seen))
        await asyncio.wait_for(self.watcher.ready.wait(), 60)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def hears(self, *told: tuple[str, str]) -> None:
        await until(lambda: set(told) <= set(self.follower.told), str(told))


async def test_listing_events_and_a_gap() -> None:
    engine = Engine()
    engine.put("old", started_at=1000.0)
    engine.put("ended", running=False, started_at=1000.0)
    async with Watched(engine) as watched:
        await watched.hears(("started", "old"), ("stopped", "ended"))
        engine.put("new")
        engine.tell("new", "start")
        await watched.hears(("fresh", "new"))
        engine.tell("new", "die")
        await watched.hears(("stopped", "new"))
        engine.put("gap")
        del engine.there["old"]
        engine.queue.put_nowait(None)
        await watched.hears(("fresh", "gap"), ("gone", "old"))
        assert watched.watcher.gaps_total == 1
        engine.tell("gap", "destroy")
        await watched.hears(("gone", "gap"))


async def test_what_began_while_no_agent_ran_is_fresh() -> None:
    engine = Engine()
    engine.put("before", started_at=1000.0)
    engine.put("meanwhile", started_at=2000.0)
    engine.put("over", running=False, started_at=2000.0)
    async with Watched(engine, last_seen=1500.0) as watched:
        await watched.hears(("started", "before"), ("fresh", "meanwhile"), ("missed", "over"))


async def test_a_missed_event_is_found_by_the_next_listing() -> None:
    engine = Engine()
    engine.put("w")
    async with Watched(engine, period_s=0.05) as watched:
        engine.put("w", running=False)
        await watched.hears(("stopped", "w"))


async def test_one_workload_without_answer_does_not_hold_up_others() -> None:
    engine = Engine()
    async with Watched(engine) as watched:
        engine.hung.add("hung")
        engine.tell("hung", "start")
        engine.put("fine")
        engine.tell("fine", "start")
        await watched.hears(("fresh", "fine"))


async def test_a_workload_that_the_engine_did_not_answer_for_is_looked_at_again() -> None:
    engine = Engine()
    engine.put("old", started_at=1000.0)
    engine.hung = {"old", "new"}
    async with Watched(engine) as watched:
        engine.put("new")
        engine.tell("new", "start")
        await asyncio.sleep(watched.watcher._call_timeout_s * 2)  # long before the next listing
        assert not {"started", "fresh"} & {what for what, _ in watched.follower.told}
        engine.hung.clear()
        await watched.hears(("started", "old"), ("fresh", "new"))
        assert not watched.watcher._unanswered


async def test_ends_and_starts_are_seen_when_the_clock_is_set_back() -> None:
    engine = Engine()
    ahead = WORLD.clock.now() + 3600
    async with Watched(engine) as watched:
        engine.put("w", started_at=ahead)
        engine.tell("w", "start")
        await watched.hears(("fresh", "w"))
        engine.put("w", running=False, started_at=ahead)
        engine.tell("w", "die")
        await watched.hears(("stopped", "w"))
        engine.queue.put_nowait(EngineEvent(id="w", action="die", time_ns=int(ahead * 1e9)))
        engine.put("w")
        engine.tell("w", "start")
        await until(lambda: watched.watcher.workloads["w"].running, "running by the new clock")


async def test_a_start_says_whether_somebody_listened_before() -> None:
    engine = Engine()
    async with Watched(engine) as watched:
        for id in ("early", "late"):
            engine.put(id, running=False, started_at=0.0)
            engine.tell(id, "create")
        engine.tell("early", "attach")
        await watched.hears(("created", "early"), ("created", "late"))
        assert (await watched.watcher.before_start("early")) is not None
        for id in ("early", "late"):
            engine.put(id)
            engine.tell(id, "start")
        engine.tell("late", "attach")
        await watched.hears(("starting, heard", "early"), ("starting", "late"), ("fresh", "early"), ("fresh", "late"))
        assert (await watched.watcher.before_start("late")) is None, "it runs"


async def test_an_inspection_faster_than_the_start_event_counts_once() -> None:
    engine = Engine()
    async with Watched(engine) as watched:
        engine.put("quick")
        engine.tell("quick", "create")
        assert (await watched.watcher.before_start("quick")) is None
        engine.tell("quick", "start")
        await watched.hears(("starting", "quick"))
        assert watched.follower.told.count(("fresh", "quick")) == 1


async def test_restart_is_two_runs_and_networks_are_sorted() -> None:
    engine = Engine()
    engine.put("w", started_at=1000.0)
    async with Watched(engine) as watched:
        assert list(watched.watcher.workloads["w"].networks) == ["a", "b"]
        engine.put("w")
        engine.tell("w", "start")
        await watched.hears(("stopped", "w"), ("fresh", "w"))


def test_labels_of_health_and_their_mistakes() -> None:
    meta = json.dumps({"HealthCheck": {"TCPPorts": ["80"], "HTTPPort": "", "HTTPURL": "", "HTTPCode": 0}})
    labels = {"ERU_META": meta, "eru.health.interval": "2s", "eru.health.unhealthy_after": "3"}
    plan = health_plan(labels, 60, 10)
    assert (plan.probes, plan.interval_s, plan.timeout_s, plan.unhealthy_after) == (True, 2, 10, 3)
    wrong = health_plan({"eru.health.interval": "x", "eru.health.healthy_after": "0", "eru.health.exec": "'"}, 60, 10)
    assert (wrong.probes, wrong.interval_s, wrong.healthy_after) == (False, 60, 1)
    assert wrong.complaint.count(";") == 2


def test_names_and_whose_workload_it_is() -> None:
    with pytest.raises(InvalidInput):
        workload_of(Inspection(id="x", name="nothing", running=True), "1.2.3.4", 1, 1)
    host = Inspection(id="x", name="a_b_c_d", running=True, networks={"host": ""}, env=["ERU_NODE_NAME=n", "X=1"])
    workload = workload_of(host, "1.2.3.4", 1, 1)
    assert (workload.app, workload.entrypoint, workload.ident) == ("a_b", "c", "d")
    assert (workload.networks, workload.addresses) == ({"host": "1.2.3.4"}, ["127.0.0.1"])
    assert workload.env == {"ERU_NODE_NAME": "n"}
    mine = MineFilter(hostname="n", only_mine=True)
    assert mine.takes({"ERU_NODE_NAME": "n"}, {})
    assert not mine.takes({"ERU_NODE_NAME": "other"}, {})
    label = MineFilter(hostname="n", only_mine=True, by_label=True, core_id="c")
    assert label.labels() == {"ERU": "1", "eru.nodename": "n", "eru.coreid": "c"}
    assert label.takes({}, label.labels() | {"more": "x"})
    assert not label.takes({}, label.labels() | {"eru.coreid": "of another cluster"})
    assert MineFilter(hostname="n").takes({}, {})


class Core:
    """Takes reports unless told otherwise."""

    def __init__(self) -> None:
        self.batches: list[list[pb.WorkloadStatus]] = []
        self.calls = 0
        self.refused: set[str] = set()
        self.away = False

    async def unary(self, method: Any, request: Any, *, timeout_s: float | None = None) -> Any:
        await asyncio.sleep(0)
        self.calls += 1
        if self.away:
            raise CoreUnreachable("away", rpc="SetWorkloadsStatus", code=14)
        if self.refused & {status.id for status in request.status}:
            raise RemoteError("unknown workload", rpc="SetWorkloadsStatus", code=1056)
        self.batches.append(list(request.status))
        return request


def workload(id: str, **more: Any) -> Workload:
    values: dict[str, Any] = {"running": True, "healthy": True, "networks": {"a": "1.1.1.1"}}
    return Workload(
        id=id, app="app", entrypoint="web", ident="i", labels={"ERU": "1"}, env={},
        health=HealthPlan(interval_s=0.05, timeout_s=1), **{**values, **more},
    )  # fmt: skip


async def reported(core: Core, reporter: Reporter, count: int) -> list[pb.WorkloadStatus]:
    task = asyncio.get_running_loop().create_task(reporter.run())
    try:
        await until(lambda: sum(map(len, core.batches)) >= count, f"{count} statuses")
        await asyncio.sleep(0.05)
    finally:
        task.cancel()
        await asyncio.wait({task})
    return [status for batch in core.batches for status in batch]


def reporter_on(core: Core, cache_ttl_s: float = 300) -> Reporter:
    return Reporter(WORLD, core, Notices(WORLD), "node", 1, cache_ttl_s)  # type: ignore[arg-type]


async def test_many_changes_are_few_calls_and_nothing_is_sent_twice() -> None:
    core = Core()
    reporter = reporter_on(core)
    for number in range(250):
        reporter.update(workload(f"w{number}"))
    assert len(await reported(core, reporter, 250)) == 250
    assert [len(batch) for batch in core.batches] == [100, 100, 50]
    reporter.update(workload("w1"))
    assert reporter.waiting == 0


async def test_hundreds_that_die_at_once_are_few_calls_even_if_some_are_refused() -> None:
    core = Core()
    reporter = reporter_on(core)
    everyone = [workload(f"w{number}") for number in range(500)]
    for each in everyone:
        reporter.update(each)
    await reported(core, reporter, 500)
    core.batches.clear()
    core.calls, core.refused = 0, {"w7", "w307"}
    for each in everyone:
        each.running = False
        reporter.update(each)
    told = await reported(core, reporter, 498)
    assert {status.id for status in told} == {each.id for each in everyone} - core.refused
    assert not any(status.running for status in told)
    assert core.calls <= 5 + 2 * 14 + 2, "a refused one is found by halves"


async def test_every_flip_arrives_in_order() -> None:
    core = Core()
    reporter = reporter_on(core)
    for running in (True, False, True):
        reporter.update(workload("w", running=running))
    told = await reported(core, reporter, 3)
    assert [status.running for status in told] == [True, False, True]
    assert [status.entrypoint for status in told] == ["", "", ""], "see status_of"


async def test_one_refused_status_holds_back_nobody_and_is_offered_again() -> None:
    core = Core()
    core.refused = {"bad"}
    reporter = reporter_on(core)
    for id in ("bad", "good"):
        reporter.update(workload(id))
    assert [status.id for status in await reported(core, reporter, 1)] == ["good"]
    core.refused = set()
    assert {status.id for status in await reported(core, reporter, 2)} == {"good", "bad"}


async def test_forgotten_workloads_are_not_reported_and_old_ones_confirmed() -> None:
    core = Core()
    reporter = reporter_on(core, cache_ttl_s=0.2)
    reporter.update(workload("stays"))
    reporter.update(workload("goes"))
    reporter.forget("goes")
    told = await reported(core, reporter, 2)
    assert {status.id for status in told} == {"stays"}


async def test_thresholds_and_first_probe_at_once() -> None:
    flips: list[bool] = []
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    labels = {
        "ERU_META": json.dumps({"HealthCheck": {"TCPPorts": [port]}}),
        "eru.health.unhealthy_after": "2",
        "eru.health.interval": "100ms",
    }
    checked = workload("w", healthy=False)
    checked.health = health_plan(labels, 60, 1)
    checked.networks = {"host": "10.9.9.9"}
    keeper = HealthKeeper(WORLD, Engine(), 4, lambda changed: flips.append(changed.healthy))
    task = asyncio.get_running_loop().create_task(keeper.run())
    keeper.watch(checked)
    await until(lambda: flips, "healthy at once")
    assert keeper.probes_total == 1
    server.close()
    await until(lambda: len(flips) == 2, "unhealthy after two failures")
    assert flips == [True, False]
    assert keeper.failures_total >= 2
    task.cancel()
    await asyncio.wait({task})


async def test_a_run_that_core_knows_already_is_told_with_its_first_result_good_or_bad() -> None:
    told: list[bool] = []
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    keeper = HealthKeeper(WORLD, Engine(), 4, lambda changed: told.append(changed.healthy))
    task = asyncio.get_running_loop().create_task(keeper.run())
    for id, listens in (("up", True), ("down", False)):
        labels = {
            "ERU_META": json.dumps({"HealthCheck": {"TCPPorts": [port if listens else "no port"]}}),
            "eru.health.healthy_after": "3",
        }
        checked = workload(id, healthy=False)
        checked.health = health_plan(labels, 60, 1)
        checked.networks = {"host": "10.9.9.9"}
        keeper.watch(checked, fresh=False)
        assert keeper.undecided(id)
        heard = len(told)
        await until(lambda heard=heard: len(told) > heard, "the first result")
        assert not keeper.undecided(id)
    assert told == [True, False]
    keeper.watch(checked)
    assert not keeper.undecided("down"), "a run that just began is reported at once"
    server.close()
    task.cancel()
    await asyncio.wait({task})


@pytest.mark.parametrize(
    "location", ["/there", "there?a=b", "//127.0.0.1:{port}/there", "http://127.0.0.1:{port}/there"]
)
async def test_http_probe_follows_redirects_of_every_form(location: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /there"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        elif head.startswith(b"GET /round"):
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: /round\r\n\r\n")
        else:
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {location.format(port=port)}\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    assert await http_probe("127.0.0.1", port, "/", 200, 30)
    assert not await http_probe("127.0.0.1", port, "/", 302, 30)
    assert not await http_probe("127.0.0.1", port, "/round", 0, 30), "for ever in a circle"
    server.close()


async def test_probes_survive_nonsense() -> None:
    server = await asyncio.start_server(
        lambda reader, writer: (writer.write(b"\xff\xfe nonsense\r\n\r\n"), writer.close()), "127.0.0.1", 0
    )
    port = str(server.sockets[0].getsockname()[1])
    assert not await http_probe("127.0.0.1", port, "/", 0, 1)
    assert not await tcp_probe("127.0.0.1", "no port", 1)
    assert not await tcp_probe("127.0.0.1", "99999", 1)
    assert await tcp_probe("127.0.0.1", f"{port}/tcp", 1)
    server.close()
