"""Carries one workload's output from the engine to its forward: live, and what was printed while nobody listened.

The source is the engine's attach. Whenever an attach begins, the kept log
before it is read from the cursor on and joined with the live bytes. While the
forward is busy the attach is paused, so that the workload waits instead of
lines being lost.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
import structlog

from eru.agent.logs.cursor import Cursor, Place, tail_of
from eru.agent.logs.forwards import Route
from eru.agent.logs.frames import Demultiplexer, LineBuffer
from eru.agent.logs.hub import Hub
from eru.agent.logs.lanes import Lane
from eru.agent.logs.records import STDERR, STDOUT, RecordMaker, split_point, stamp
from eru.agent.logs.replay import Anchor, AnchorSearch, normal, overlap
from eru.agent.notices import Notices
from eru.agent.runtime import Attachment, LogSource, PastLine
from eru.agent.workloads import Workload
from eru.lib.retry import Backoff
from eru.lib.world import World
from eru.model.errors import EngineError, EngineMissing, EngineUnreachable

EARLY_HIGH = 256 << 10  # live bytes held while the past is joined
CAUGHT_UP_BELOW = 32 << 10  # a read of fewer bytes means that nothing older waits
JOIN_WAIT_S = 0.15  # for live bytes when kept lines overlap the attach
JOIN_TRIES = 3
JOIN_LINES_MAX = 20_000  # kept lines around the attach that are compared
LAST_BYTES_S = 2.0  # between the end of a workload and the end of its attach
BEFORE_START_NS = 2_000_000_000  # an engine notes the start a little after the first line
PAST_BATCH = 500

_log = structlog.get_logger(__name__)


class PumpCounts(msgspec.Struct):
    """Of all pumps since the start of the process."""

    lines: int = 0
    bytes: int = 0
    split: int = 0
    replayed: int = 0
    unjoined: int = 0
    attaches: int = 0


class Pump:
    """One workload. `run` ends when the workload has stopped and all its output is handed on."""

    def __init__(
        self,
        world: World,
        workload: Workload,
        source: LogSource,
        route: Route,
        hub: Hub,
        cursor: Cursor,
        notices: Notices,
        counts: PumpCounts,
        line_max: int,
        copy_stdout: bool,
    ) -> None:
        self._world = world
        self._workload = workload
        self._source = source
        self._route = route
        self._hub = hub
        self._cursor = cursor
        place = cursor.place
        self._place = None if place is None else msgspec.structs.replace(place, tails=dict(place.tails))
        self._notices = notices
        self._counts = counts
        self._line_max = line_max
        self._copy_stdout = copy_stdout
        self._records = RecordMaker(workload)
        self._buffers = {STDOUT: LineBuffer(), STDERR: LineBuffer()}
        self._frames = Demultiplexer(workload.tty)
        self._attachment: Attachment | None = None
        self._early: list[bytes] | None = []
        self._early_bytes = 0
        self._arrived = asyncio.Event()
        self._ended: asyncio.Future[Exception | None] | None = None
        self._paused_by: Lane | None = None
        self._lane_free = asyncio.Event()
        self._stop = asyncio.Event()
        self._over = asyncio.Event()  # the workload has stopped, or the attach has ended
        self._caught_up_ns = world.clock.now_ns()
        self._order = 0

    # What the watcher tells.

    def stopped(self) -> None:
        """The workload has ended: hand on the rest, then end."""
        self._stop.set()
        self._over.set()

    def readdressed(self) -> None:
        """The workload's addresses have changed."""
        self._records.refresh(self._workload)

    def continue_from(self, before: Pump) -> None:
        """Take over the place that the run before has reached, also what its lane still holds."""
        self._cursor, self._place, self._order = before._cursor, before._place, before._order

    def forget_cursor(self) -> None:
        """The workload is gone for good."""
        self._cursor.remove()

    # What the attachment tells (Feed).

    def output(self, data: bytes) -> None:
        if self._early is None:
            self._live(data)
            return
        self._early.append(data)
        self._early_bytes += len(data)
        self._arrived.set()
        if self._early_bytes > EARLY_HIGH and self._attachment is not None:
            self._attachment.pause()

    def ended(self, error: Exception | None) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(error)
            self._over.set()

    # What the lane tells (Source).

    def lane_ready(self) -> None:
        self._paused_by = None
        self._lane_free.set()
        if self._attachment is not None and self._early is None:
            self._attachment.resume()

    async def run(self, fresh: bool) -> None:
        """`fresh`: the agent saw this run begin, so all of its output is wanted."""
        if self._place is None and fresh:
            self._begin_at(max(int(self._workload.started_at * 1e9) - BEFORE_START_NS, 1))
        backoff = Backoff(self._world, first_s=0.05, most_s=2.0)
        try:
            while not self._stop.is_set():
                try:
                    if await self._attached():
                        break
                    backoff.reset()
                except EngineMissing:
                    break
                except EngineError as error:
                    self._notices.trouble("attach", "output of workloads cannot be read, trying on", error=str(error))
                await self._pause(backoff.next_s())
            else:
                await self._finish_from_past()
            self._flush_open_lines()
            self._cursor.finish()
        finally:
            self._detach()
            if self._paused_by is not None:
                self._paused_by.forget(self)

    async def _attached(self) -> bool:
        """One attach from its beginning to its end; True when the workload's output is complete."""
        self._early, self._early_bytes = [], 0
        self._arrived.clear()
        if not self._stop.is_set():
            self._over.clear()
        self._frames = Demultiplexer(self._workload.tty)
        self._open_again()
        self._ended = asyncio.get_running_loop().create_future()
        asked_ns = self._world.clock.now_ns()
        self._attachment = await self._source.attach(self._workload.id, self)
        attached_ns = self._world.clock.now_ns()
        self._counts.attaches += 1
        self._notices.over("attach", "output of workloads can be read again")
        if self._route.discards:
            self._place = None  # readers of the live stream get no past
        elif self._place is None:
            self._begin_at(asked_ns)
        else:
            await self._join(asked_ns, attached_ns)
        self._go_live()
        await self._until_end()
        assert self._ended is not None
        clean = self._ended.done() and self._ended.result() is None
        self._detach()
        if clean and not self._stop.is_set():
            await self._pause(1.0)  # the end of a workload is known a moment before or after its output ends
        return clean and self._stop.is_set()

    def _begin_at(self, now_ns: int) -> None:
        """From here on every line is wanted."""
        self._caught_up_ns = now_ns
        self._place = Place(now_ns, now_ns, {STDOUT: b"", STDERR: b""})
        if not self._route.discards:
            self._cursor.start(now_ns)

    def _open_again(self) -> None:
        """An unfinished line of a broken attach will come whole from the kept log."""
        for buffer in self._buffers.values():
            buffer.take()

    def _go_live(self) -> None:
        early, self._early = self._early or [], None
        for data in early:
            self._live(data)
        if self._paused_by is None and self._attachment is not None:
            self._attachment.resume()

    async def _until_end(self) -> None:
        """Until the attach ends, or the workload has stopped and its last bytes had time to arrive."""
        assert self._ended is not None
        await self._over.wait()
        while not self._ended.done():
            await asyncio.wait({self._ended}, timeout=LAST_BYTES_S)
            if self._paused_by is None:
                break

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not when the workload stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass

    def _detach(self) -> None:
        if self._attachment is not None:
            self._attachment.close()
            self._attachment = None

    # Live output.

    def _live(self, data: bytes) -> None:
        now = self._world.clock.now()
        now_ns = int(now * 1e9)
        if len(data) < CAUGHT_UP_BELOW and self._paused_by is None:
            self._caught_up_ns = now_ns
        when = stamp(now)
        for stream, payload in self._frames.feed(data):
            buffer = self._buffers[stream]
            if buffer.size + len(payload) > self._line_max:
                self._live_long(stream, payload, when, now_ns)
                continue
            lines = buffer.feed(payload)
            if lines:
                self._emit(stream, lines, when, now_ns)

    def _live_long(self, stream: int, payload: bytes, when: bytes, now_ns: int) -> None:
        """As `_live` where a line may be over-long: cut it, mark the parts."""
        buffer = self._buffers[stream]
        at = 0
        while at < len(payload):
            end = payload.find(b"\n", at) + 1 or len(payload)
            lines = buffer.feed(payload[at:end])
            at = end
            if lines and len(lines) <= self._line_max + 1:
                self._emit(stream, lines, when, now_ns)
                continue
            rest = lines or buffer.take()
            while len(rest) > self._line_max + bool(lines):
                cut = split_point(rest, self._line_max)
                self._emit_piece(stream, rest[:cut], when, now_ns)
                rest = rest[cut:]
            if lines:
                self._emit(stream, rest, when, now_ns)
            elif rest:
                buffer.feed(rest)

    def _emit(self, stream: int, lines: bytes, when: bytes, now_ns: int) -> None:
        count = lines.count(b"\n")
        self._counts.lines += count
        self._counts.bytes += len(lines)
        wanted = self._hub.wanted(self._workload.app)
        if self._route.discards and not wanted:
            return
        records = self._records.block(stream, lines, when)
        self._hand_on(stream, records, count, tail_of(normal(lines)), now_ns, wanted)

    def _emit_piece(self, stream: int, data: bytes, when: bytes, now_ns: int) -> None:
        self._counts.split += 1
        self._counts.bytes += len(data)
        records = self._records.piece(stream, data, when, partial=True)
        self._hand_on(stream, records, 1, None, now_ns, self._hub.wanted(self._workload.app))

    def _hand_on(self, stream: int, records: bytes, count: int, tail: bytes | None, last_ns: int, wanted: bool) -> None:
        if wanted:
            self._hub.publish(self._workload, stream, records, count)
        self._order += 1
        order, since_ns, cursor = self._order, self._caught_up_ns, self._cursor
        if tail is not None and self._place is not None:
            self._place.take(stream, tail, last_ns, since_ns)

        def commit() -> None:
            if tail is not None:
                cursor.advance(order, stream, tail, last_ns, since_ns)

        lane = self._route.put(records, count, commit, self._copy_stdout)
        if lane is not None and lane.busy and self._paused_by is None:
            self._paused_by = lane
            self._lane_free.clear()
            if self._attachment is not None:
                self._attachment.pause()
            lane.wait_for(self)

    def _flush_open_lines(self) -> None:
        """The last line of a workload that ended without a newline."""
        now = self._world.clock.now()
        for stream, buffer in self._buffers.items():
            if rest := buffer.take():
                self._emit(stream, rest + b"\n", stamp(now), int(now * 1e9))

    # Past output.

    async def _join(self, asked_ns: int, attached_ns: int) -> None:
        """Hand on what was kept since the cursor, then find where the live bytes begin in it."""
        try:
            anchor = await self._anchor()
            around = await self._replay(anchor, asked_ns)
            for attempt in range(JOIN_TRIES):
                if not self._early and (not around or attempt):
                    break
                if not self._early:
                    await self._wait_for_live()
                    continue
                if self._meet(around, attached_ns):
                    return
                await self._world.clock.sleep(0.02 * 4**attempt)
                around = await self._lines_after(anchor, asked_ns)
            if self._early and self._early_bytes:
                self._counts.unjoined += 1
            await self._hand_on_past(around)
        except EngineUnreachable:
            raise
        except EngineError as error:
            self._notices.trouble(
                f"history {self._workload.id}",
                "kept output cannot be read, lines printed while the agent did not listen are missing",
                workload=self._workload.id[:12],
                app=self._workload.app,
                error=str(error),
            )

    async def _anchor(self) -> Anchor:
        place = self._place
        assert place is not None
        search = AnchorSearch(place)
        if any(place.tails.values()):
            async with aclosing(_generator(self._past(min(place.since_ns, place.last_ns)))) as lines:
                async for line in lines:
                    search.feed(line)
        return search.anchor()

    async def _replay(self, anchor: Anchor, asked_ns: int) -> list[PastLine]:
        """Hand on kept lines from before the attach was asked for; returns those from around that moment."""
        around: list[PastLine] = []
        batch: list[PastLine] = []
        async with aclosing(_generator(self._past(anchor.since_ns))) as lines:
            async for line in lines:
                if not anchor.is_new(line):
                    continue
                if line.time_ns >= asked_ns:
                    around.append(line)
                    if len(around) >= JOIN_LINES_MAX:
                        break
                    continue
                batch.append(line)
                if len(batch) >= PAST_BATCH:
                    await self._hand_on_past(batch)
                    batch = []
        await self._hand_on_past(batch)
        return around

    async def _lines_after(self, anchor: Anchor, asked_ns: int) -> list[PastLine]:
        found: list[PastLine] = []
        async with aclosing(_generator(self._past(asked_ns))) as lines:
            async for line in lines:
                if anchor.is_new(line) and line.time_ns >= asked_ns:
                    found.append(line)
                    if len(found) >= JOIN_LINES_MAX:
                        break
        return found

    def _meet(self, around: list[PastLine], attached_ns: int) -> bool:
        """Try to find the first live bytes among the kept lines; if found, hand on what comes before."""
        live = {STDOUT: b"", STDERR: b""}
        frames = Demultiplexer(self._workload.tty)
        for data in self._early or []:
            for stream, payload in frames.feed(data):
                live[stream] += payload
        cuts: dict[int, int] = {}
        for stream, seen in live.items():
            lines = [line for line in around if line.stream == stream]
            if not seen:
                cuts[stream] = len(lines)
                continue
            met = overlap(lines, seen, attached_ns)
            if met is None:
                return False
            cuts[stream] = met
        self._join_at(around, cuts, live)
        return True

    def _join_at(self, around: list[PastLine], cuts: dict[int, int], live: dict[int, bytes]) -> None:
        seen = {STDOUT: 0, STDERR: 0}
        before = []
        for line in around:
            index = seen[line.stream]
            seen[line.stream] += 1
            if index < cuts[line.stream]:
                before.append(line)
            elif index == cuts[line.stream]:
                # the live bytes may begin inside this line: its missing beginning is put before them
                head = normal(live[line.stream]).partition(b"\n")[0]
                whole = normal(line.data).rstrip(b"\n")
                missing = whole[: whole.rfind(head)] if head else whole
                self._buffers[line.stream].feed(missing)
        self._past_records(before)

    async def _wait_for_live(self) -> None:
        try:
            async with asyncio.timeout(JOIN_WAIT_S):
                await self._arrived.wait()
        except TimeoutError:
            pass

    async def _finish_from_past(self) -> None:
        """The workload stopped while its attach was broken or before there was one."""
        if self._place is None or self._place.finished or self._route.discards:
            return
        self._open_again()
        try:
            anchor = await self._anchor()
            await self._hand_on_past(await self._replay(anchor, self._world.clock.now_ns()))
        except EngineError as error:
            _log.debug("rest of a stopped workload's output cannot be read", error=str(error))

    async def _hand_on_past(self, lines: list[PastLine]) -> None:
        self._past_records(lines)
        while self._paused_by is not None:
            await self._lane_free.wait()

    def _past_records(self, lines: list[PastLine]) -> None:
        for line in lines:
            data = normal(line.data)
            if not data.endswith(b"\n"):
                data += b"\n"
            when = stamp(line.time_ns / 1e9)
            self._caught_up_ns = line.time_ns
            self._counts.replayed += 1
            while len(data) > self._line_max + 1:
                cut = split_point(data, self._line_max)
                self._emit_piece(line.stream, data[:cut], when, line.time_ns)
                data = data[cut:]
            self._emit(line.stream, data, when, line.time_ns)

    def _past(self, since_ns: int) -> Any:
        return self._source.history(self._workload.id, tty=self._workload.tty, since_ns=since_ns)


async def _generator(lines: Any) -> Any:
    async for line in lines:
        yield line
