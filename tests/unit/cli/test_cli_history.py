"""Events of several cores as one history: asked of each, merged, followed, and honest about who is missing."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from typing import Any

import grpc
import pytest

from eru.cli.cluster import history
from eru.cli.session import Session
from eru.cli.settings import Settings
from eru.cli.show.times import NS
from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
from support.scripted_core import Fails, Script, ScriptHandler


def event(kind: str, ago_s: float, core: str, **more: Any) -> v1.Event:
    return v1.Event(kind=kind, time_ns=time.time_ns() - int(ago_s * NS), core=core, name="shop_web_aBcDeF", **more)


@contextmanager
def scripted() -> Iterator[Script]:
    script = Script()
    server = grpc.server(ThreadPoolExecutor(8), handlers=[ScriptHandler(script)])
    script.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield script
    server.stop(None)


@pytest.fixture
def cores() -> Iterator[tuple[Script, Script]]:
    """Two cores; the first announces both."""
    with scripted() as one, scripted() as two:
        one.answers["WatchServiceStatus"] = [pb.ServiceStatus(addresses=[one.address, two.address])]
        yield one, two


async def test_all_cores_that_are_announced_are_asked_and_merged_by_time(cores):
    one, two = cores
    one.answers["Events"] = [event("planned", 30, "a"), event("recorded", 10, "a"), event("healthy", 5, "a")]
    two.answers["Events"] = [event("node-up", 20, "b", nodename="n1"), event("healthy", 4, "b")]
    async with Session(Settings(eru=one.address)) as session:
        found = await history.past(session, v1.EventsRequest())
    assert [each.kind for each in found] == ["planned", "node-up", "recorded", "healthy"]


async def test_the_newest_of_all_are_kept_when_there_is_a_limit(cores):
    one, two = cores
    one.answers["Events"] = [event("planned", 30, "a"), event("created", 20, "a")]
    two.answers["Events"] = [event("started", 10, "b"), event("recorded", 5, "b")]
    async with Session(Settings(eru=one.address)) as session:
        found = await history.past(session, v1.EventsRequest(limit=3))
    assert [each.kind for each in found] == ["created", "started", "recorded"]


async def test_a_core_that_does_not_answer_is_said(cores, capsys):
    one, _ = cores
    one.answers["WatchServiceStatus"] = [pb.ServiceStatus(addresses=[one.address, "127.0.0.1:1"])]
    one.answers["Events"] = [event("planned", 30, "a")]
    async with Session(Settings(eru=one.address)) as session:
        assert len(await history.past(session, v1.EventsRequest())) == 1
    assert "without what core 127.0.0.1:1 saw" in capsys.readouterr().err


async def test_one_published_core_among_ours_is_no_reason_to_fail(cores, capsys):
    one, _two = cores
    one.answers["Events"] = [event("planned", 30, "a")]
    async with Session(Settings(eru=one.address)) as session:
        assert len(await history.past(session, v1.EventsRequest())) == 1
    assert "without what core" in capsys.readouterr().err


async def test_only_published_cores_keep_no_events(cores):
    one, _ = cores
    async with Session(Settings(eru=one.address)) as session:
        with pytest.raises(history.NoEvents):
            await history.past(session, v1.EventsRequest())


async def test_what_a_core_refuses_is_raised(cores):
    one, two = cores
    one.answers["Events"] = two.answers["Events"] = Fails("since is in the future", kind="InvalidInput")
    async with Session(Settings(eru=one.address)) as session:
        with pytest.raises(Exception, match="in the future"):
            await history.past(session, v1.EventsRequest())


async def test_following_goes_on_after_a_break_and_repeats_nothing(cores):
    one, two = cores
    told = [event("planned", 10, "a")]
    came: queue.Queue[v1.Event | None] = queue.Queue()

    def live(requests: Iterator[v1.EventsRequest]) -> Iterator[v1.Event]:
        """What is put, until a None ends the stream; like a core, again from `since_ns` on."""
        asked = next(iter(requests))
        assert asked.follow
        yield from (each for each in told if each.time_ns >= asked.since_ns)
        while (each := came.get()) is not None:
            told.append(each)
            yield each

    one.answers["Events"] = live
    two.answers["Events"] = [event("node-up", 9, "b", nodename="n1")]
    got: list[str] = []
    async with Session(Settings(eru=one.address)) as session:
        async with asyncio.timeout(60), aclosing(history.follow(session, v1.EventsRequest(), list(told))) as events:
            came.put(event("created", 0, "a"))
            async for each in events:
                got.append(each.kind)
                if got.count("created") and "node-up" in got and "started" not in got:
                    came.put(None)
                    came.put(event("started", 0, "a"))
                if "started" in got:
                    break
        came.put(None)
    assert sorted(got) == ["created", "node-up", "started"]
