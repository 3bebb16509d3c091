"""One workload's lines on their way out: cut where they are too long, made into records, noted in the cursor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from eru.agent.logs.cursor import Cursor, Place, tail_of
from eru.agent.logs.forwards import Route
from eru.agent.logs.frames import LineBuffer
from eru.agent.logs.hub import Hub
from eru.agent.logs.lanes import Lane
from eru.agent.logs.records import STDERR, STDOUT, RecordMaker, split_point, stamp
from eru.agent.logs.replay import normal
from eru.agent.runtime import PastLine
from eru.agent.workloads import Workload
from eru.lib.world import World

CAUGHT_UP_BELOW = 32 << 10  # a read of fewer bytes means that nothing older waits
BLOCK_MAX = 1 << 20  # bytes of records made at once: short lines become a hundred times as long
RECORD_HEAD = 300  # bytes of a record beside its text, about
IN_FLIGHT_MAX = 4 << 20  # bytes between a workload and us: an engine blocks the workload well below this
MARK_EVERY = 512 << 10


class PumpCounts(msgspec.Struct):
    """Of all pumps since the start of the process."""

    lines: int = 0
    bytes: int = 0
    split: int = 0
    replayed: int = 0
    unjoined: int = 0
    attaches: int = 0


class Outlet:
    """Takes live bytes and kept lines of one workload. Calls `busy` with a lane that wants its sources to wait."""

    def __init__(
        self,
        world: World,
        workload: Workload,
        route: Route,
        hub: Hub,
        cursor: Cursor,
        counts: PumpCounts,
        line_max: int,
        copy_stdout: bool,
        busy: Callable[[Lane], None],
    ) -> None:
        self._world = world
        self._workload = workload
        self._route = route
        self._hub = hub
        self._cursor = cursor
        place = cursor.place
        self.place = None if place is None else msgspec.structs.replace(place, tails=dict(place.tails))
        self._counts = counts
        self._line_max = line_max
        self._copy_stdout = copy_stdout
        self._busy = busy
        self._records = RecordMaker(workload)
        self._buffers = {STDOUT: LineBuffer(), STDERR: LineBuffer()}
        self._skip: dict[int, int] = {}  # stream -> live lines that are known already
        self._caught_up_ns = world.clock.now_ns()
        self._received = 0
        self._marks: deque[tuple[int, int]] = deque()  # (bytes received, when)
        self._order = 0

    def readdress(self, workload: Workload) -> None:
        """The workload's addresses have changed, or more is known of it."""
        self._workload = workload
        self._records.refresh(workload)

    def continue_from(self, before: Outlet) -> None:
        """Take over the place that the run before has reached, also what its lane still holds."""
        self._cursor, self.place, self._order = before._cursor, before.place, before._order

    def begin_at(self, now_ns: int) -> None:
        """From here on every line is wanted."""
        self._caught_up_ns = now_ns
        self.place = Place(now_ns, now_ns, {STDOUT: b"", STDERR: b""})
        if not self._route.discards:
            self._cursor.start(now_ns)

    def open_again(self) -> None:
        """What a broken attach has left unfinished will come whole from the kept log."""
        self._skip = {}
        for buffer in self._buffers.values():
            buffer.take()

    def go_on(self, skip: dict[int, int], missing: dict[int, bytes]) -> None:
        """How live bytes continue what was kept, see `Met`."""
        self._skip.update(skip)
        for stream, data in missing.items():
            self._buffers[stream].feed(data)

    def close(self) -> None:
        """Nothing more comes: let go of whoever would have to wait, so that all of this is freed at once."""
        self._busy = lambda _: None

    def live(self, stream: int, payload: bytes, when: bytes, now_ns: int) -> None:
        """The next live bytes of one stream."""
        buffer = self._buffers[stream]
        if buffer.size + len(payload) > self._line_max:
            self._live_long(stream, payload, when, now_ns)
        elif lines := buffer.feed(payload):
            self._emit_live(stream, lines, when, now_ns)

    def note_progress(self, size: int, now_ns: int, paused: bool) -> None:
        """Keep `_caught_up_ns`: nothing that is still unread was printed before it."""
        if size < CAUGHT_UP_BELOW and not paused:
            self._caught_up_ns = now_ns
            self._marks.clear()
            return
        self._received += size
        if not self._marks or self._received - self._marks[-1][0] >= MARK_EVERY:
            self._marks.append((self._received, now_ns))
        while self._marks[0][0] <= self._received - IN_FLIGHT_MAX:
            self._caught_up_ns = max(self._caught_up_ns, self._marks.popleft()[1])

    def flush(self) -> None:
        """The last line of a workload that ended without a newline."""
        now = self._world.clock.now()
        for stream, buffer in self._buffers.items():
            if rest := buffer.take():
                self._emit_live(stream, rest + b"\n", stamp(now), int(now * 1e9))

    def past(self, lines: list[PastLine]) -> None:
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

    def _live_long(self, stream: int, payload: bytes, when: bytes, now_ns: int) -> None:
        """As `live` where a line may be over-long: cut it, mark the parts."""
        buffer = self._buffers[stream]
        at = 0
        while at < len(payload):
            end = payload.find(b"\n", at) + 1 or len(payload)
            lines = buffer.feed(payload[at:end])
            at = end
            if lines and len(lines) <= self._line_max + 1:
                self._emit_live(stream, lines, when, now_ns)
                continue
            rest = lines or buffer.take()
            while len(rest) > self._line_max + bool(lines):
                cut = split_point(rest, self._line_max)
                self._emit_piece(stream, rest[:cut], when, now_ns)
                rest = rest[cut:]
            if lines:
                self._emit_live(stream, rest, when, now_ns)
            elif rest:
                buffer.feed(rest)

    def _emit_live(self, stream: int, lines: bytes, when: bytes, now_ns: int) -> None:
        self._emit(stream, self._without_known(stream, lines) if stream in self._skip else lines, when, now_ns)

    def _emit(self, stream: int, lines: bytes, when: bytes, now_ns: int) -> None:
        count = lines.count(b"\n")
        if not count:
            return
        if len(lines) + count * RECORD_HEAD > BLOCK_MAX and count > 1:
            cut = lines.rfind(b"\n", 0, len(lines) // 2) + 1 or lines.find(b"\n") + 1
            if cut < len(lines):
                self._emit(stream, lines[:cut], when, now_ns)
                self._emit(stream, lines[cut:], when, now_ns)
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
        if tail is not None and self.place is not None:
            self.place.take(stream, tail, last_ns, since_ns)

        def commit() -> None:
            if tail is not None:
                cursor.advance(order, stream, tail, last_ns, since_ns)

        lane = self._route.put(records, count, commit, self._copy_stdout)
        if lane is not None and lane.busy:
            self._busy(lane)


def _same_ms(one: PastLine, other: PastLine) -> bool:
    return one.time_ns // 1_000_000 == other.time_ns // 1_000_000
