"""Carries one workload's output from the engine to its forward: live, and what was printed while nobody listened.

The source is the engine's attach. Whenever an attach begins, the kept log
before it is read from the cursor on and joined with the live bytes. While the
forward is busy the attach is paused, so that the workload waits instead of
lines being lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
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
from eru.agent.logs.replay import LOOK_BYTES, Anchor, AnchorSearch, Joiner, already_known, live_lines, normal
from eru.agent.notices import Notices
from eru.agent.runtime import Attachment, LogSource, PastLine
from eru.agent.workloads import Workload
from eru.lib.retry import Backoff
from eru.lib.world import World
from eru.model.errors import EngineError, EngineMissing, EngineUnreachable

EARLY_HIGH = 256 << 10  # live bytes held while the past is joined
CAUGHT_UP_BELOW = 32 << 10  # a read of fewer bytes means that nothing older waits
IN_FLIGHT_MAX = 4 << 20  # bytes between a workload and us: an engine blocks the workload well below this
MARK_EVERY = 512 << 10
JOIN_WAIT_S = 0.15  # for live bytes when kept lines overlap the attach
JOIN_TRIES = 3
UNFINISHED_MAX = 16 << 20  # bytes of a kept line without its end; larger ones are parts
KNOWN_MAX = 1000  # kept lines handed on that may still arrive live
JOIN_RETRY_S = 0.02  # first pause for an engine that keeps lines later than it delivers them
LAST_BYTES_S = 2.0  # between the end of a workload and the end of its attach
BEFORE_START_NS = 2_000_000_000  # an engine notes the start a little after the first line

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
        self._news = asyncio.Event()
        self._ended: asyncio.Future[Exception | None] | None = None
        self._paused_by: Lane | None = None
        self._lane_free = asyncio.Event()
        self._stop = asyncio.Event()
        self._begun = asyncio.Event()
        self._over = asyncio.Event()  # the workload has stopped, or the attach has ended
        self._caught_up_ns = world.clock.now_ns()
        self._unfinished: dict[int, bytes] = {}  # stream -> kept beginning of a line still being printed
        self._received = 0
        self._marks: deque[tuple[int, int]] = deque()  # (bytes received, when)
        self._order = 0
        self._skip: dict[int, int] = {}  # stream -> live lines that are known already
        self._fresh = False

    # What the watcher tells.

    def began(self) -> None:
        """The workload this pump was prepared for runs now."""
        self._begun.set()

    def stopped(self) -> None:
        """The workload has ended: hand on the rest, then end."""
        self._stop.set()
        self._over.set()
        self._begun.set()
        self._news.set()

    def readdressed(self, workload: Workload) -> None:
        """The workload's addresses have changed, or it has only now been seen running."""
        self._workload = workload
        self._records.refresh(workload)

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
        self._news.set()
        if self._early_bytes > EARLY_HIGH and self._attachment is not None:
            self._attachment.pause()

    def ended(self, error: Exception | None) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(error)
            self._over.set()
            self._news.set()

    # What the lane tells (Source).

    def lane_ready(self) -> None:
        self._paused_by = None
        self._lane_free.set()
        if self._attachment is not None and self._early is None:
            self._attachment.resume()

    async def run(self, fresh: bool) -> None:
        """`fresh`: the agent saw this run begin, so all of its output is wanted.

        Attaches at once and waits with the output until `began` or `stopped`.
        """
        self._fresh = fresh
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
        self._news.clear()
        if not self._stop.is_set():
            self._over.clear()
        self._open_again()
        self._ended = asyncio.get_running_loop().create_future()
        asked_ns = self._world.clock.now_ns()
        self._attachment = await self._source.attach(self._workload.id, self)
        self._counts.attaches += 1
        await self._begun.wait()
        self._frames = Demultiplexer(self._workload.tty)
        if self._place is None and self._fresh:
            self._begin_at(max(int(self._workload.started_at * 1e9) - BEFORE_START_NS, 1))
        self._notices.over("attach", "output of workloads can be read again")
        if self._route.discards:
            self._place = None  # readers of the live stream get no past
        elif self._place is None:
            self._begin_at(asked_ns)
        else:
            await self._join(asked_ns)
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
        self._note_progress(len(data), now_ns)
        when = stamp(now)
        for stream, payload in self._frames.feed(data):
            buffer = self._buffers[stream]
            if buffer.size + len(payload) > self._line_max:
                self._live_long(stream, payload, when, now_ns)
                continue
            lines = buffer.feed(payload)
            if lines:
                self._emit(stream, lines, when, now_ns)

    def _note_progress(self, size: int, now_ns: int) -> None:
        """Keep `_caught_up_ns`: nothing that is still unread was printed before it."""
        if size < CAUGHT_UP_BELOW and self._paused_by is None:
            self._caught_up_ns = now_ns
            self._marks.clear()
            return
        self._received += size
        if not self._marks or self._received - self._marks[-1][0] >= MARK_EVERY:
            self._marks.append((self._received, now_ns))
        while self._marks[0][0] <= self._received - IN_FLIGHT_MAX:
            self._caught_up_ns = max(self._caught_up_ns, self._marks.popleft()[1])

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
        if stream in self._skip:
            lines = self._without_known(stream, lines)
        count = lines.count(b"\n")
        if not count:
            return
        self._counts.lines += count
        self._counts.bytes += len(lines)
        wanted = self._hub.wanted(self._workload.app)
        if self._route.discards and not wanted:
            return
        records = self._records.block(stream, lines, when)
        self._hand_on(stream, records, count, tail_of(normal(lines)), now_ns, wanted)

    def _without_known(self, stream: int, lines: bytes) -> bytes:
        """Live lines that were handed on from the kept log before."""
        at = 0
        while self._skip[stream] and at < len(lines):
            at = lines.find(b"\n", at) + 1
            self._skip[stream] -= 1
        if not self._skip[stream]:
            del self._skip[stream]
        return lines[at:]

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

    async def _join(self, asked_ns: int) -> None:
        """Hand on what was kept since the place, up to where the live bytes begin in it.

        An engine answers an attach a moment before it really listens, so the
        first live bytes, whenever they come, are looked up in the kept log:
        only that proves that nothing lies between.
        """
        try:
            anchor = await self._anchor()
            known: list[PastLine] = []
            if await self._past_before(anchor, asked_ns):
                await self._first_news(JOIN_WAIT_S)
            if not self._early:
                known = await self._all_past(anchor)
                await self._first_news(None)
            if self._stop.is_set() and self._ended is not None and not self._ended.done():
                await asyncio.wait({self._ended}, timeout=LAST_BYTES_S)
            if self._early:
                await self._meet(anchor, asked_ns, known)
            else:
                await self._all_past(anchor)
        except EngineUnreachable:
            raise
        except EngineError as error:
            if self._stop.is_set():
                return  # an engine that removes a workload does not give its log away any more
            self._notices.trouble(
                "history",
                "kept output cannot be read, lines printed while the agent did not listen are missing",
                workload=self._workload.id[:12],
                app=self._workload.app,
                error=str(error),
            )

    async def _past_before(self, anchor: Anchor, asked_ns: int) -> bool:
        """Hand on new kept lines from before `asked_ns`; whether there are later ones."""
        async with aclosing(_generator(self._past(anchor.since_ns))) as batches:
            async for lines in batches:
                new = [line for line in lines if anchor.is_new(line)]
                before = [line for line in new if line.time_ns < asked_ns]
                await self._hand_on_past(before)
                anchor.passed(before)
                if len(before) < len(new):
                    return True
        return False

    async def _all_past(self, anchor: Anchor) -> list[PastLine]:
        """Hand on all new kept lines; returns the last ones, which may still come live."""
        last: deque[PastLine] = deque(maxlen=KNOWN_MAX)
        async with aclosing(_generator(self._past(anchor.since_ns))) as batches:
            async for lines in batches:
                new = [line for line in lines if anchor.is_new(line)]
                await self._hand_on_past(new)
                anchor.passed(new)
                last.extend(new)
        return list(last)

    async def _meet(self, anchor: Anchor, asked_ns: int, known: list[PastLine]) -> None:
        """Live bytes are there: hand on the kept lines before them, and none of theirs."""
        for attempt in range(JOIN_TRIES + 1):
            live = live_lines(self._early_streams())
            skip = already_known(known, live)
            joiner = Joiner(asked_ns, {stream: lines for stream, lines in live.items() if stream not in skip})
            async with aclosing(_generator(self._past(anchor.since_ns))) as batches:
                async for lines in batches:
                    if joiner.complete:
                        break
                    before = joiner.feed([line for line in lines if anchor.is_new(line)])
                    await self._hand_on_past(before)
                    anchor.passed(before)
            before = joiner.settle()
            await self._hand_on_past(before)
            anchor.passed(before)
            if joiner.complete or attempt == JOIN_TRIES:
                break
            await self._world.clock.sleep(JOIN_RETRY_S * 4**attempt)
        if not joiner.complete:
            self._counts.unjoined += 1
        await self._hand_on_past(joiner.rest())
        self._skip = skip
        for stream, missing in (self._unfinished_before_live() | joiner.missing).items():
            self._buffers[stream].feed(missing)

    def _unfinished_before_live(self) -> dict[int, bytes]:
        """Beginnings of lines that are still being printed, up to where the live bytes go on with them."""
        live = self._early_streams()
        found = {}
        for stream, kept in self._unfinished.items():
            if stream in live and b"\n" not in live[stream][:LOOK_BYTES]:
                at = kept.rfind(normal(live[stream][:256]))
                found[stream] = kept if at < 0 else kept[:at]
        return found

    async def _first_news(self, timeout_s: float | None) -> None:
        """Until live bytes arrive, the attach ends or the workload stops."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (self._early or self._stop.is_set() or (self._ended is not None and self._ended.done())):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass

    def _early_streams(self) -> dict[int, bytes]:
        """What came live so far, per stream; enough of it to compare."""
        frames = Demultiplexer(self._workload.tty)
        parts: dict[int, list[bytes]] = {}
        for data in self._early or []:
            for stream, payload in frames.feed(data):
                parts.setdefault(stream, []).append(payload)
        return {stream: b"".join(pieces) for stream, pieces in parts.items()}

    async def _anchor(self) -> Anchor:
        place = self._place
        assert place is not None
        search = AnchorSearch(place)
        if any(place.tails.values()):
            async with aclosing(_generator(self._past(min(place.since_ns, place.last_ns)))) as batches:
                async for lines in batches:
                    for line in lines:
                        search.feed(line)
        return search.anchor()

    async def _finish_from_past(self) -> None:
        """The workload stopped while its attach was broken or before there was one."""
        if self._place is None and self._fresh and self._workload.started_at:
            self._begin_at(max(int(self._workload.started_at * 1e9) - BEFORE_START_NS, 1))
        if self._place is None or self._place.finished or self._route.discards:
            return
        self._open_again()
        try:
            anchor = await self._anchor()
            async with aclosing(_generator(self._past(anchor.since_ns))) as batches:
                async for lines in batches:
                    await self._hand_on_past([line for line in lines if anchor.is_new(line)])
        except EngineError as error:
            _log.debug("rest of a stopped workload's output cannot be read", error=str(error))

    async def _hand_on_past(self, lines: list[PastLine]) -> None:
        self._past_records(lines)
        while self._paused_by is not None:
            await self._lane_free.wait()

    def _past_records(self, lines: list[PastLine]) -> None:
        """Records of kept lines; neighbours of one stream and one millisecond share a timestamp."""
        at = 0
        while at < len(lines):
            first = lines[at]
            end = at + 1
            while end < len(lines) and lines[end].stream == first.stream and _same_ms(lines[end], first):
                end += 1
            last_ns = lines[end - 1].time_ns
            self._caught_up_ns = last_ns
            self._counts.replayed += end - at
            when = stamp(first.time_ns / 1e9)
            for data in self._cut(first.stream, lines[at:end], when):
                self._emit(first.stream, data, when, last_ns)
            at = end

    def _cut(self, stream: int, lines: list[PastLine], when: bytes) -> Iterator[bytes]:
        """Complete lines as one block, after parts of over-long ones were sent."""
        whole: list[bytes] = []
        for line in lines:
            data = normal(line.data)
            if not data.endswith(b"\n"):
                data += b"\n"
            if len(data) > self._line_max + 1:
                if whole:
                    yield b"".join(whole)
                    whole = []
                while len(data) > self._line_max + 1:
                    cut = split_point(data, self._line_max)
                    self._emit_piece(stream, data[:cut], when, line.time_ns)
                    data = data[cut:]
            whole.append(data)
        yield b"".join(whole)

    async def _past(self, since_ns: int) -> AsyncIterator[list[PastLine]]:
        """Kept lines in batches; one that is still being printed is put aside in `_unfinished`."""
        history = self._source.history(self._workload.id, tty=self._workload.tty, since_ns=since_ns)
        self._unfinished = {}
        async with aclosing(_generator(history)) as batches:
            async for lines in batches:
                if not lines[-1].data.endswith(b"\n") and not self._stop.is_set():
                    for line in lines:
                        if _is_unfinished(line):
                            self._unfinished[line.stream] = normal(line.data)
                    lines = [line for line in lines if not _is_unfinished(line)]
                if lines:
                    yield lines


def _is_unfinished(line: PastLine) -> bool:
    return not line.data.endswith(b"\n") and len(line.data) < UNFINISHED_MAX


def _same_ms(one: PastLine, other: PastLine) -> bool:
    return one.time_ns // 1_000_000 == other.time_ns // 1_000_000


async def _generator(lines: Any) -> Any:
    async for line in lines:
        yield line
