"""One workload's output from an engine made of plain objects to its forward: what is waited for, and every joint."""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eru.agent.logs.cursor import Cursor, Place
from eru.agent.logs.hub import Hub
from eru.agent.logs.outlet import PumpCounts
from eru.agent.logs.pump import Pump
from eru.agent.notices import Notices
from eru.agent.runtime import Feed, PastLine
from eru.agent.workloads import HealthPlan, Workload
from eru.lib.world import real_world
from support.agent_node import until

WORLD = real_world()
PIECE = 16 << 10  # bytes: an engine keeps longer lines in such pieces
LINE_MAX = 64 << 10


class Engine:
    """Keeps what is printed as Docker does, and delivers it to whoever is attached."""

    same_clock = True

    def __init__(self) -> None:
        self.kept: list[PastLine] = []
        self.open: dict[int, list[tuple[int, bytes]]] = {1: [], 2: []}
        self.rest = {1: b"", 2: b""}
        self.feed: Feed | None = None
        self.asked = 0
        self.histories = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.paused = False

    def print(self, data: bytes, stream: int = 1) -> None:
        if self.feed is not None:
            self.feed.output(struct.pack(">BxxxL", stream, len(data)) + data)
        self.rest[stream] += data
        while self.rest[stream]:
            end = self.rest[stream].find(b"\n") + 1
            if 0 < end <= PIECE:
                cut = end
            elif len(self.rest[stream]) >= PIECE:
                cut = PIECE
            else:
                return
            piece, self.rest[stream] = self.rest[stream][:cut], self.rest[stream][cut:]
            self.open[stream].append((WORLD.clock.now_ns(), piece))
            if piece.endswith(b"\n"):
                line = b"".join(part for _, part in self.open[stream])
                self.kept.append(PastLine(stream, self.open[stream][-1][0], line))
                self.open[stream] = []

    async def attach(self, id: str, feed: Feed, *, timeout_s: float | None = None) -> Engine:
        self.asked += 1
        await self.answers.wait()
        self.feed = feed
        return self

    async def history(
        self, id: str, *, tty: bool, since_ns: int, recent: bool = False
    ) -> AsyncIterator[list[PastLine]]:
        self.histories += 1
        found = [line for line in self.kept if line.time_ns >= since_ns]
        for stream, parts in self.open.items():
            if parts:
                sizes = tuple((at, len(part)) for at, part in parts)
                found.append(PastLine(stream, parts[0][0], b"".join(part for _, part in parts), sizes))
        if found:
            yield found

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.feed = None

    def end(self) -> None:
        assert self.feed is not None
        self.feed.ended(None)


class Route:
    """Takes every record at once."""

    discards = False

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def put(self, records: bytes, count: int, commit: Any, copy: bool) -> None:
        lines = records.splitlines()
        assert len(lines) == count
        self.records += [json.loads(line) for line in lines]
        commit()

    def texts(self, kind: str = "stdout") -> list[str]:
        return [record["data"] for record in self.records if record["type"] == kind]


class Running:
    """A pump under way."""

    def __init__(self, folder: Path, engine: Engine, *, place: Place | None = None, look: Any = None) -> None:
        self.engine, self.route, self.counts = engine, Route(), PumpCounts()
        self.workload = Workload(
            id="w" * 64, app="app", entrypoint="web", ident="abcdef", labels={}, env={},
            health=HealthPlan(interval_s=1, timeout_s=1), running=True, networks={"none": ""},
            started_at=WORLD.clock.now(),
        )  # fmt: skip
        cursor = Cursor(folder / "cursor")
        cursor.place = place
        self.pump = Pump(
            WORLD, self.workload, engine, self.route, Hub(), cursor,  # type: ignore[arg-type]
            Notices(WORLD), self.counts, LINE_MAX, True, look,
        )  # fmt: skip
        self._fresh = place is None

    async def __aenter__(self) -> Running:
        self.task = asyncio.get_running_loop().create_task(self.pump.run(self._fresh))
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})

    async def attached(self) -> None:
        await until(lambda: self.engine.feed is not None, "the attach")

    async def gives(self, *texts: str) -> None:
        await until(lambda: len(self.route.texts()) >= len(texts), f"{len(texts)} lines", 5)
        assert self.route.texts() == list(texts)


def seen() -> Place:
    """A place after which nothing was read yet."""
    now_ns = WORLD.clock.now_ns()
    return Place(now_ns, now_ns, {1: b"", 2: b""})


async def test_a_new_workload_waits_for_nothing(tmp_path: Path) -> None:
    engine = Engine()

    async def look() -> Workload:
        return running.workload

    async with Running(tmp_path, engine, look=look) as running:
        await running.attached()
        engine.print(b"first\n")
        await running.gives("first")
        engine.print(b"second\n")
        await running.gives("first", "second")
        assert engine.histories == 0, "an attach older than the start needs no past"


async def test_an_attach_answered_before_the_start_needs_no_past(tmp_path: Path) -> None:
    engine = Engine()

    async def nothing() -> None:
        await running.pump._begun.wait()

    async with Running(tmp_path, engine, look=nothing) as running:
        await running.attached()
        await asyncio.sleep(0.01)
        engine.print(b"first\n")
        running.pump.starting(WORLD.clock.now_ns(), True)
        running.pump.began()
        await running.gives("first")
        assert engine.histories == 0


async def test_an_attach_that_waited_for_the_start_begins_in_the_past(tmp_path: Path) -> None:
    engine = Engine()
    engine.answers.clear()

    async def nothing() -> None: ...

    async with Running(tmp_path, engine, look=nothing) as running:
        await until(lambda: engine.asked, "the question")
        engine.print(b"same\nsame\n")
        await asyncio.sleep(0.002)
        running.pump.starting(WORLD.clock.now_ns(), False)
        running.pump.began()
        engine.answers.set()
        await running.gives("same", "same")
        engine.print(b"same\n")
        engine.print(b"other\n")
        await running.gives("same", "same", "same", "other")
        engine.print(b"oops\n", stream=2)
        await until(lambda: running.route.texts("stderr") == ["oops"], "the other stream")


async def test_a_line_kept_late_is_looked_for_again(tmp_path: Path) -> None:
    engine = Engine()
    async with Running(tmp_path, engine, place=seen()) as running:
        running.pump.began()
        await running.attached()
        await until(lambda: engine.histories, "the past read")
        engine.kept.append(PastLine(1, WORLD.clock.now_ns(), b"late\n"))
        await running.gives("late")


async def test_a_short_line_that_was_open_at_the_attach_is_whole(tmp_path: Path) -> None:
    engine = Engine()
    place = seen()
    engine.print(b"before\nabc")
    async with Running(tmp_path, engine, place=place) as running:
        running.pump.began()
        await running.attached()
        await running.gives("before")
        engine.print(b"d")
        await asyncio.sleep(0.05)
        engine.print(b"errors do not wait for it\n", stream=2)
        await until(lambda: running.route.texts("stderr"), "the other stream")
        engine.print(b"ef\nnext\n")
        await running.gives("before", "abcdef", "next")


@pytest.mark.parametrize(("period", "cut"), list(itertools.product([1, 7, PIECE], [PIECE, PIECE + 5, 2 * PIECE + 999])))
async def test_a_long_line_that_repeats_itself_is_put_together_exactly(tmp_path: Path, period: int, cut: int) -> None:
    engine = Engine()
    place = seen()
    line = (bytes(97 + n % 26 for n in range(period)) * (3 * PIECE // period + 1))[: 3 * PIECE + 123]
    engine.print(b"before\n" + line[:cut])
    async with Running(tmp_path, engine, place=place) as running:
        running.pump.began()
        await running.attached()
        await running.gives("before")
        for at in range(cut, len(line), 1000):
            engine.print(line[at : min(at + 1000, len(line))])
        await asyncio.sleep(0.05)
        engine.print(b"\nafter\n")
        await running.gives("before", line.decode(), "after")
        assert running.counts.unjoined == 0


@pytest.mark.parametrize("period", [7, 90_001])
async def test_a_line_too_long_to_be_held_is_joined_while_it_is_printed(tmp_path: Path, period: int) -> None:
    engine = Engine()
    place = seen()
    line = (bytes(97 + (n * n) % 23 for n in range(period)) * (5 * LINE_MAX // period + 1))[: 5 * LINE_MAX]
    engine.print(line[: 2 * LINE_MAX + 77])
    async with Running(tmp_path, engine, place=place) as running:
        running.pump.began()
        await running.attached()
        await until(lambda: engine.histories, "the past read")
        for at in range(2 * LINE_MAX + 77, len(line), 8000):
            engine.print(line[at : at + 8000])
            await asyncio.sleep(0)
        await until(lambda: running.route.records, "parts before the line ends")
        engine.print(b"\n")
        await until(lambda: "partial" not in running.route.records[-1], "the end of the line")
        told = "".join(running.route.texts())
        if period > PIECE:
            assert told == line.decode()
        assert len(line) - PIECE < len(told) <= len(line), "one that repeats itself may lack what was not kept yet"
        assert not engine.paused


async def test_many_short_lines_become_blocks_of_bounded_size(tmp_path: Path) -> None:
    engine = Engine()
    sizes: list[int] = []

    async def look() -> Workload:
        return running.workload

    async with Running(tmp_path, engine, look=look) as running:
        put = running.route.put

        def noted(records: bytes, *more: Any) -> None:
            sizes.append(len(records))
            put(records, *more)

        running.route.put = noted  # type: ignore[method-assign]
        await running.attached()
        engine.print(b"x\n" * 50_000)
        await until(lambda: len(running.route.records) == 50_000, "every line")
        assert max(sizes) <= 1 << 20


async def test_the_end_without_a_newline_is_joined_too(tmp_path: Path) -> None:
    engine = Engine()
    place = seen()
    engine.print(b"abc")
    async with Running(tmp_path, engine, place=place) as running:
        running.pump.began()
        await running.attached()
        await asyncio.sleep(0.05)
        engine.print(b"def")
        engine.kept.append(PastLine(1, WORLD.clock.now_ns(), b"abcdef\n"))
        running.pump.stopped()
        engine.end()
        await running.gives("abcdef")
        await asyncio.wait_for(running.task, 60)
