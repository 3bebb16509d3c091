"""Spools of forwards that are configured no more."""

from __future__ import annotations

import json
from pathlib import Path

from eru.agent.logs.forwards import Forwards
from eru.agent.logs.leftovers import CHUNK
from eru.agent.logs.spool import Spool
from eru.agent.notices import Notices
from eru.agent.settings import LogSettings
from eru.lib.world import real_world

WORLD = real_world()
NOBODY = ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]  # nothing listens: everything stays in the spools


def record(id: str, number: int) -> bytes:
    return json.dumps({"id": id, "data": f"line {number}"}, separators=(",", ":")).encode() + b"\n"


async def spooled(folder: Path, forwards: list[str], records: list[bytes], **more: str) -> Forwards:
    """What an agent with these forwards leaves after these records."""
    made = Forwards(LogSettings(forwards=forwards, **more), "node", folder, WORLD, Notices(WORLD))  # type: ignore[arg-type]
    await made.start()
    for each in records:
        id = json.loads(each)["id"]
        made.route(id).put(each, 1, lambda: None)
    await made.close(0)
    return made


def waiting(forwards: Forwards) -> list[bytes]:
    """The content of each spool."""
    return [content(lane.spool) for lane in forwards.live]


def content(spool: Spool) -> bytes:
    parts = []
    spool.rewind()
    while part := spool.read(CHUNK):
        parts.append(part)
    return b"".join(parts)


async def test_a_receiver_that_moved_gets_what_waited_before_anything_new(tmp_path: Path) -> None:
    old, new = [record("a" * 64, number) for number in range(100)], [record("a" * 64, 1000)]
    await spooled(tmp_path, NOBODY[:1], old)
    after = await spooled(tmp_path, NOBODY[1:], new)
    assert waiting(after) == [b"".join(old + new)]
    assert (after.leftovers.moved, after.leftovers.dropped) == (100, 0)
    assert len(list((tmp_path / "spool").iterdir())) == 1
    again = await spooled(tmp_path, NOBODY[1:], [])
    assert (again.leftovers.moved, waiting(again)) == (0, [b"".join(old + new)])


async def test_records_go_where_their_workloads_records_go_now(tmp_path: Path) -> None:
    ids = ["param1", "param2"]  # published: the second and the first of two
    await spooled(tmp_path, ["tcp://127.0.0.1:3"], [record(ids[number % 2], number) for number in range(10)])
    after = await spooled(tmp_path, NOBODY, [])
    first, second = waiting(after)
    assert b"param1" not in first
    assert b"param2" not in second
    assert (first.count(b"\n"), second.count(b"\n")) == (5, 5)


async def test_without_a_forward_they_are_dropped_and_counted(tmp_path: Path) -> None:
    await spooled(tmp_path, NOBODY[:1], [record("a", number) for number in range(7)])
    after = await spooled(tmp_path, ["__discard__"], [])
    assert (after.leftovers.moved, after.leftovers.dropped) == (0, 7)
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_misspelt_forward_costs_nothing(tmp_path: Path) -> None:
    records = [record("a", number) for number in range(7)]
    await spooled(tmp_path, NOBODY[:1], records)
    assert (await spooled(tmp_path, ["tpc://127.0.0.1:1"], [])).leftovers.dropped == 0
    assert waiting(await spooled(tmp_path, NOBODY[:1], [])) == [b"".join(records)]


async def test_what_does_not_fit_is_dropped_and_counted(tmp_path: Path) -> None:
    count = 3 * CHUNK // 100
    await spooled(tmp_path, NOBODY[:1], [record("a" * 64, number) for number in range(count)])
    after = await spooled(tmp_path, NOBODY[1:], [], spool_max="1500KiB")
    assert after.leftovers.moved > 0
    assert after.leftovers.dropped > 0
    assert after.leftovers.moved + after.leftovers.dropped == count
