"""The parts that operations stand on: view, registration, streams, hooks, watchdog, recovery."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from eru.core.accounts import within
from eru.core.hooks import split_command
from eru.core.ops.capacity import dry_run
from eru.core.statuses import Hub
from eru.model.errors import LeaseLost, NotFound, Refused, StoreUnavailable
from eru.model.intents import Intent, Verb
from eru.model.nodes import Heartbeat
from eru.model.workloads import WorkloadStatus
from eru.resource.cpumem import CpumemKind
from eru.store.contract import PAGE_ITEMS, TXN_OPS_MAX, Delete, Put


async def test_a_core_without_its_lease_can_change_nothing(lab) -> None:
    await lab.add_nodes("n1")
    core = lab.core
    identity = await core.session.identity()
    requests = {name: kind.parse_request(None) for name, kind in core.kinds.items()}
    async with core.operation("test") as op:
        await lab.store.revoke(identity.lease)
        before = lab.store.revision
        with pytest.raises(LeaseLost):
            await core.ledger.reserve(op, "pod", "n1", ["app_web_abcdef"], requests)
        assert lab.store.revision == before


async def test_it_comes_back_under_a_new_name(lab) -> None:
    core = await lab.add_core(session_ttl_s=1)
    identity = core.session.current()
    await lab.store.revoke(identity.lease)
    await lab.until(lambda: core.session.id not in ("", identity.id))
    assert core.session.registered
    assert identity.margin_s() == 0


async def test_what_a_dead_core_left_is_settled(lab) -> None:
    await lab.add_nodes("n1")
    intent = Intent(op="1", verb=Verb.DEPLOY, owner="dead", nodename="n1", name="app_web_abcdef", counted=False)
    await lab.store.txn([], [Put(lab.keys.intent("n1", intent.name), intent.encode())])
    lab.core.recovery.wake()
    await lab.at_rest()


async def test_intents_of_a_node_that_is_gone_are_dropped(lab) -> None:
    intent = Intent(op="1", verb=Verb.REMOVE, owner="dead", nodename="gone", name="app_web_abcdef", id="x")
    await lab.store.txn([], [Put(lab.keys.intent("gone", intent.name), intent.encode())])
    lab.core.recovery.wake()
    await lab.at_rest()


async def test_the_workloads_of_a_dead_node_are_marked_down(lab) -> None:
    beat = lab.keys.heartbeat("n1")
    await lab.store.txn([], [Put(beat, Heartbeat(nodename="n1").encode())])
    await lab.add_nodes("n1", test=False)
    [one] = await lab.deploy()
    key = lab.keys.status("app", "web", "n1", one.id)
    up = WorkloadStatus(id=one.id, running=True, healthy=True, networks={"host": "10.0.0.1"}, extension=b"x")
    await lab.store.txn([], [Put(key, up.encode()), Delete(beat)])

    async def status() -> WorkloadStatus:
        return WorkloadStatus.decode((await lab.store.get(key)).value)

    async def is_down() -> bool:
        return not (await status()).running

    await lab.until(is_down)
    down = await status()
    assert not down.healthy
    assert (down.networks, down.extension) == (up.networks, up.extension)


async def test_the_view_counts_like_the_store_on_every_core(lab) -> None:
    await lab.add_nodes("n1", "n2")
    other = await lab.add_core()
    await asyncio.gather(lab.deploy(3), lab.deploy(3, core=other))
    there = Counter(workload.nodename for workload in await lab.workloads())
    for core in lab.cores:
        await core.fleet.fresh()
        assert {name: core.fleet.view.count("app", "web", name) for name in ("n1", "n2")} == there
        assert not core.fleet.view.pending.any()


async def test_a_core_that_starts_counts_what_is_there_page_by_page(lab) -> None:
    await lab.add_nodes("n1", "n2")
    await lab.deploy(4)
    await lab.deploy(1, app="other")
    many = [Put(lab.keys.of_app("many", "web", "n1", f"{number:064x}"), b"") for number in range(PAGE_ITEMS + 7)]
    for start in range(0, len(many), TXN_OPS_MAX):
        await lab.store.txn([], many[start : start + TXN_OPS_MAX])
    await lab.store.txn([], [Put(f"{lab.keys.of_app()}nobody/wrote/this", b"")])
    later = await lab.add_core()
    assert {name: later.fleet.view.count(*name) for name in (("app", "web", "n1"), ("app", "web", "n2"))} == {
        ("app", "web", "n1"): lab.core.fleet.view.count("app", "web", "n1"),
        ("app", "web", "n2"): 4 - lab.core.fleet.view.count("app", "web", "n1"),
    }
    assert later.fleet.view.count("many", "web", "n1") == PAGE_ITEMS + 7
    assert sum(sum(rows.values()) for rows in later.fleet.view.counts().values()) == PAGE_ITEMS + 7 + 5


async def test_a_view_that_lost_history_is_read_anew(lab) -> None:
    await lab.add_nodes("n1")
    await lab.deploy(2)
    rebuilds = lab.core.fleet.rebuilds
    await lab.core.fleet._reload()
    assert lab.core.fleet.rebuilds == rebuilds + 1
    assert lab.core.fleet.view.count("app", "web", "n1") == 2
    await lab.deploy(1)
    await lab.core.fleet.fresh()
    assert lab.core.fleet.view.count("app", "web", "n1") == 3


async def test_an_unknown_node_is_looked_for_before_it_is_denied(lab) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await lab.core.fleet.node_surely("nobody")


async def test_a_revision_that_never_comes_is_an_error_not_a_hang(lab) -> None:
    core = await lab.add_core(fresh_wait_s=0.05)
    with pytest.raises(StoreUnavailable, match="view of the cluster"):
        await core.fleet.caught_up(1 << 40)


async def test_a_slow_reader_is_cut_off_and_others_are_not() -> None:
    hub: Hub[int] = Hub(3)
    with hub.subscribe() as slow, hub.subscribe(lambda number: number % 2 == 0) as even:
        for number in range(6):
            hub.publish(number)
        hub.close()
        with pytest.raises(Refused, match="cut off"):
            [event async for event in slow]
        assert [event async for event in even] == [0, 2, 4]


def test_commands_are_split_like_a_shell_does() -> None:
    assert split_command("sh -c 'ls'") == ["sh", "-c", "ls"]
    assert split_command("echo it's") == ["echo", "it's"]
    assert split_command("") == []


def test_within() -> None:
    capacity = {"cpumem": {"cpu": 2.0, "memory": 10, "cpu_map": {"0": 100}}}
    assert within({"cpumem": {"cpu": 5.0, "memory": 10, "cpu_map": {"0": 100}}}, capacity)
    assert not within({"cpumem": {"memory": 11}}, capacity)
    assert not within({"cpumem": {"cpu_map": {"0": 101}}}, capacity)


class _SlowTable:
    """Lets `between` happen while it is asked."""

    def __init__(self, kind, inner):
        self.kind, self.inner = kind, inner

    def set(self, row, capacity, usage):
        self.inner.set(row, capacity, usage)

    def clear(self, row):
        self.inner.clear(row)

    def measure(self, request, rows):
        self.kind.on_the_loop += threading.current_thread() is threading.main_thread()
        said = self.inner.measure(request, rows)
        self.kind.asked += 1
        self.kind.between()
        return said


class _SlowKind(CpumemKind):
    """As an external program: notes in which thread it is asked."""

    blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.on_the_loop = 0
        self.asked = 0
        self.between = lambda: None

    def table(self):
        return _SlowTable(self, super().table())

    def allot(self, capacity, usage, request, count):
        self.on_the_loop += threading.current_thread() is threading.main_thread()
        return super().allot(capacity, usage, request, count)

    def explain(self, nodename, capacity, usage, request):
        self.on_the_loop += threading.current_thread() is threading.main_thread()
        return super().explain(nodename, capacity, usage, request)


async def test_kinds_that_take_long_do_not_hold_up_the_core(lab) -> None:
    await lab.add_nodes("n1")
    kind = _SlowKind()
    core = await lab.add_core(kinds={"cpumem": kind})
    made = await lab.deploy(3, core=core)
    assert all(result.success for result in made)
    [refused] = await lab.deploy(100, core=core)
    assert len(refused.refusals) == 1
    assert "has room for" in str(refused.error)
    assert len((await dry_run(core, lab.spec(2))).placements) == 2
    assert kind.on_the_loop == 0
    await lab.at_rest()


async def test_a_node_that_changes_while_it_is_asked_about_is_not_asked_on_the_loop(lab) -> None:
    """What was said before counts; the record that is compared has the last word."""
    await lab.add_nodes("n1", "n2")
    kind = _SlowKind()
    core = await lab.add_core(kinds={"cpumem": kind})
    loop = asyncio.get_running_loop()

    def between() -> None:
        kind.between = lambda: None
        other = asyncio.run_coroutine_threadsafe(lab.deploy(2, core=core), loop)
        assert all(result.success for result in other.result(5))

    kind.between = between
    made = await lab.deploy(2, core=core)
    assert all(result.success for result in made)
    assert (kind.asked, kind.on_the_loop) == (2, 0)
    await lab.at_rest()
