"""How the screen's knowledge is kept true: listing, reports, breaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

from eru.cli.session import Session
from eru.cli.settings import Settings
from eru.cli.tui.cluster import Cluster
from eru.cli.tui.feed import Feed
from eru.lib.tasks import task_owner
from eru.wire import core_pb2 as pb
from support.scripted_core import Fails, Script


def workload(number: int, **status: bool) -> pb.Workload:
    id_ = f"{number:064x}"
    reported = pb.WorkloadStatus(id=id_, **status) if status else None
    return pb.Workload(id=id_, name=f"shop_web_{number:06}", nodename="n1", podname="prod", status=reported)


async def fed(
    script: Script, until: Callable[[Cluster], bool], before: Callable[[Feed], None] | None = None
) -> Cluster:
    """The cluster as soon as it satisfies."""
    cluster = Cluster()
    async with Session(Settings(eru=script.address)) as session, task_owner("test") as owner:
        feed = Feed(session, cluster)
        feed.start(owner)
        async with asyncio.timeout(60):
            while not until(cluster):
                feed.news.clear()
                if before is not None:
                    before(feed)
                await feed.news.wait()
    return cluster


def nothing(_: Iterator[Any]) -> Iterator[Any]:
    """A stream on which nothing happens, until the test is over."""
    threading.Event().wait(3)
    yield from ()


def quiet(script: Script) -> None:
    script.answers |= {
        "ListWorkloads": [workload(number, running=True, healthy=True) for number in range(3)],
        "ListPodNodes": [pb.Node(name="n1", podname="prod", available=True)],
        "ListPods": pb.Pods(pods=[pb.Pod(name="prod")]),
        "WorkloadStatusStream": nothing,
        "NodeStatusStream": nothing,
    }


async def test_a_large_listing_shows_its_beginning_before_its_end(script):
    quiet(script)
    goes_on = threading.Event()

    def listing(_: Iterator[Any]) -> Iterator[pb.Workload]:
        yield from (workload(number) for number in range(100))
        goes_on.wait(10)
        yield from (workload(number) for number in range(100, 200))

    script.answers["ListWorkloads"] = listing
    seen: list[tuple[int, bool]] = []

    def done(cluster: Cluster) -> bool:
        seen.append((len(cluster.instances), cluster.complete))
        if cluster.instances:
            goes_on.set()
        return cluster.complete

    cluster = await fed(script, done)
    assert len(cluster.instances) == 200
    assert any(0 < count < 200 and not complete for count, complete in seen)


async def test_reports_change_what_was_listed(script):
    quiet(script)
    ill = workload(1, running=True)

    def reports(_: Iterator[Any]) -> Iterator[pb.WorkloadStatusStreamMessage]:
        yield pb.WorkloadStatusStreamMessage(id=ill.id, workload=ill, status=ill.status)
        threading.Event().wait(3)

    script.answers["WorkloadStatusStream"] = reports
    cluster = await fed(script, lambda known: known.complete and known.instances[ill.id].state == "running")
    assert sorted(each.state for each in cluster.instances.values()) == ["healthy", "healthy", "running"]


async def test_nodes_and_pods_come_after_the_list(script):
    quiet(script)
    cluster = await fed(script, lambda known: bool(known.nodes))
    assert cluster.complete
    assert cluster.nodes["n1"].state == "up"


async def test_trouble_is_said_and_goes_away_with_it(script):
    quiet(script)
    script.answers["ListWorkloads"] = Fails("no quorum")
    told: list[str] = []

    def healed(cluster: Cluster) -> bool:
        if cluster.trouble:
            told.append(cluster.trouble)
            quiet(script)
        return cluster.complete and not cluster.trouble

    await fed(script, healed)
    assert "no quorum" in told[0]


async def test_what_was_changed_from_here_is_listed_at_once(script):
    quiet(script)

    def fewer(cluster: Cluster) -> bool:
        if cluster.complete and len(cluster.instances) == 3:
            script.answers["ListWorkloads"] = [workload(0)]
        return cluster.complete and len(cluster.instances) == 1

    def again(feed: Feed) -> None:
        if feed.cluster.complete:
            feed.look_again()

    await fed(script, fewer, again)
