"""statsd packets, and names that are looked up in the background."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from eru.agent.metrics.statsd import FRESH_S, PACKET_MAX, RETRY_S, Lookup, Statsd
from eru.agent.notices import Notices
from eru.lib.tasks import TaskOwner
from eru.lib.world import World, seeded_world

GAUGE = b"some.gauge:1|g"


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now(self) -> float:
        return self.at

    def now_ns(self) -> int:
        return int(self.at * 1e9)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def world(hands: Hands) -> World:
    return seeded_world(1, hands)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(60)
        yield made


def statsd_to(target: str, world: World, lookup: Lookup | None = None) -> Statsd:
    return Statsd(target, world, TaskOwner("test"), Notices(world), lookup)


def push(statsd: Statsd) -> None:
    statsd.gauge("some.gauge", 1)
    statsd.flush()


def test_packets_are_small_and_negative_gauges_follow_a_zero(server: socket.socket, world: World) -> None:
    statsd = statsd_to(f"127.0.0.1:{server.getsockname()[1]}", world)
    for index in range(100):
        statsd.gauge(f"ERU.app.web.host.1234567.figure{index}", index / 4)
    statsd.gauge("tiny", 2.2686683451571465e-06)
    statsd.gauge("low", -2.5)
    statsd.flush()
    packets = [server.recv(65536) for _ in range(statsd.sent_total)]
    statsd.close()
    assert all(len(packet) <= PACKET_MAX for packet in packets)
    lines = b"\n".join(packets).split(b"\n")
    assert lines[:3] == [
        b"ERU.app.web.host.1234567.figure0:0|g",
        b"ERU.app.web.host.1234567.figure1:0.25|g",
        b"ERU.app.web.host.1234567.figure2:0.5|g",
    ]
    assert lines[-3:] == [b"tiny:0.0000022686683451571465|g", b"low:0|g", b"low:-2.5|g"], "never with an exponent"


class Names:
    """A name server: says nothing until `answer` is set; counts the questions."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def __call__(self, host: str, port: int) -> list[Any]:
        self.asked += 1
        there = await asyncio.shield(self.answer)
        if not there:
            raise OSError(f"{host} is unknown")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("127.0.0.1", there))]


async def soon() -> None:
    """Let what is ready happen."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_silent_name_server_holds_nothing_up(server: socket.socket, world: World) -> None:
    names = Names()
    statsd = statsd_to("stats.example:8125", world, names)
    for _ in range(3):
        push(statsd)
        await soon()
    assert (names.asked, statsd.sent_total, statsd.failed_total) == (1, 0, 3), "one question, and nobody waits for it"
    names.answer.set_result(server.getsockname()[1])
    await soon()
    push(statsd)
    assert server.recv(100) == GAUGE
    statsd.close()


async def test_an_address_is_kept_for_a_while_and_then_followed(
    server: socket.socket, world: World, hands: Hands
) -> None:
    names = Names()
    statsd = statsd_to("stats.example:8125", world, names)
    names.answer.set_result(server.getsockname()[1])
    for _ in range(5):
        push(statsd)
        await soon()
    assert names.asked == 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as moved:
        moved.bind(("127.0.0.1", 0))
        moved.settimeout(60)
        names.answer = asyncio.get_running_loop().create_future()
        names.answer.set_result(moved.getsockname()[1])
        hands.at += FRESH_S + 1
        push(statsd)  # still to the old one, and asks
        await soon()
        push(statsd)
        assert moved.recv(100) == GAUGE
    assert names.asked == 2
    statsd.close()


async def test_an_unknown_name_is_asked_for_again_after_a_pause(world: World, hands: Hands) -> None:
    names = Names()
    names.answer.set_result(0)
    notices = Notices(world)
    statsd = Statsd("stats.example:8125", world, TaskOwner("test"), notices, names)
    for _ in range(5):
        push(statsd)
        await soon()
    assert names.asked == 1
    assert notices.current() == ["statsd stats.example:8125"]
    hands.at += RETRY_S + 1
    push(statsd)
    await soon()
    assert names.asked == 2


async def test_a_server_that_is_not_there_is_counted_and_tried_on(world: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    statsd = statsd_to(f"127.0.0.1:{address[1]}", world)
    for _ in range(10):
        push(statsd)
    assert statsd.failed_total > 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
        back.bind(address)
        back.settimeout(60)
        push(statsd)
        push(statsd)
        assert back.recv(100) == GAUGE
    statsd.close()
