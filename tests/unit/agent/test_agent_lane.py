"""What a lane says of receivers that come and go: lines for people, not one for each connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from eru.agent.logs.lanes import Lane
from eru.agent.logs.spool import Spool
from eru.agent.logs.transports import TcpTransport
from eru.agent.notices import Notices
from eru.lib.world import real_world
from support.agent_node import TcpSink, until

WORLD = real_world()


@pytest.fixture
async def sink() -> AsyncIterator[TcpSink]:
    sink = TcpSink()
    await sink.start()
    yield sink
    await sink.stop()


def lane_to(port: int, folder: Path) -> Lane:
    return Lane("tcp", TcpTransport("127.0.0.1", port), Spool(folder, 64 << 20), WORLD, Notices(WORLD))


async def test_a_receiver_that_closes_each_connection_is_told_once(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    lane = lane_to(server.sockets[0].getsockname()[1], tmp_path)
    with capture_logs() as said:
        lane.start()
        for _ in range(3):
            seen = lane.counts.connects
            lane.put(b"{}\n" * 4_000_000, 4_000_000, None)  # more than kernels take
            await until(lambda seen=seen: lane.counts.connects > seen, "one more connection", 60)
        await lane.close(0)
    server.close()
    assert len(said) <= 1, said


async def test_a_receiver_that_was_away_is_told_to_be_back_at_once(sink: TcpSink, tmp_path: Path) -> None:
    await sink.stop()
    lane = lane_to(sink.port, tmp_path)
    with capture_logs() as said:
        lane.start()
        lane.put(b"{}\n", 1, None)
        await until(lambda: said, "a word")
        await sink.start()
        await until(lambda: sink.lines(), "the record")
    assert [line["event"] for line in said][1:] == ["log receiver is reached again"]
    await lane.close(0)
