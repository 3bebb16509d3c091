"""Carries one workload's output from the engine to its forward: live, and what was printed while nobody listened.

The source is the engine's attach. Whenever an attach begins, the kept log
before it is read from the cursor on and joined with the live bytes. While the
forward is busy the attach is paused, so that the workload waits instead of
lines being lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from eru.agent.logs.cursor import Cursor
from eru.agent.logs.forwards import Route
from eru.agent.logs.frames import Demultiplexer
from eru.agent.logs.hub import Hub
from eru.agent.logs.joint import Joint, Met, Past
from eru.agent.logs.lanes import Lane
from eru.agent.logs.outlet import Outlet, PumpCounts
from eru.agent.logs.records import STDERR, STDOUT, stamp
from eru.agent.notices import Notices
from eru.agent.runtime import Attachment, LogSource, PastLine
from eru.agent.workloads import Workload
from eru.lib.retry import Backoff
from eru.lib.world import World
from eru.model.errors import EngineError, EngineMissing, EngineUnreachable

EARLY_HIGH = 256 << 10  # live bytes held while the past is joined
HELD_MORE = 256 << 10  # bytes held beyond the longest line before the workload has to wait
JOIN_WAIT_S = 0.03  # for live bytes when kept lines overlap the attach
KEPT_LATE_S = (0.03, 0.3)  # how much later than delivered a line may be kept, where only that tells of it
START_MOST_S = 120.0  # an engine that starts many workloads at once may take so long for one
ADDRESS_WAIT_S = 0.05  # the first lines of a new workload wait so long for its addresses
LAST_BYTES_S = 20.0  # from the end of a workload to the end of its attach, at most; a busy engine is late
BEFORE_START_NS = 2_000_000_000  # an engine notes the start a little after the first line

_log = structlog.get_logger(__name__)
Look = Callable[[], Awaitable[Workload | None]]  # the workload, if it was never started until now


class _Held:
    """Live bytes of a stream whose first line is not joined with the kept ones yet."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.since_ns = 0
        self.ended = False  # the first line is complete


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
        look: Look | None = None,
    ) -> None:
        self._world = world
        self._workload = workload
        self._source = source
        self._route = route
        self._cursor = cursor
        self._notices = notices
        self._counts = counts
        self._line_max = line_max
        self._look = look
        self._event_ns = 0  # when the engine said that the workload began
        self._attached_before = True
        self._outlet = Outlet(world, workload, route, hub, cursor, counts, line_max, copy_stdout, self._wait_for)
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
        self._held: dict[int, _Held] = {}
        self._ripe = asyncio.Event()  # a stream that is held can be joined, or the workload is over
        self._fresh = False

    # What the watcher tells.

    def starting(self, event_ns: int, attached: bool) -> None:
        """The engine says that the workload has begun at `event_ns`; `attached`: it let somebody listen before."""
        self._event_ns, self._attached_before = event_ns, attached

    def began(self) -> None:
        """The workload this pump was prepared for runs now."""
        self._begun.set()
        self._news.set()

    def stopped(self) -> None:
        """The workload has ended: hand on the rest, then end."""
        self._stop.set()
        self._begun.set()
        self._end()

    def readdressed(self, workload: Workload) -> None:
        """The workload's addresses have changed, or it has only now been seen running."""
        self._workload = workload
        self._outlet.readdress(workload)

    def continue_from(self, before: Pump) -> None:
        """Take over the place that the run before has reached, also what its lane still holds."""
        self._cursor = before._cursor
        self._outlet.continue_from(before._outlet)

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
            self._end()

    def _end(self) -> None:
        self._over.set()
        self._ripe.set()
        self._news.set()

    # What the lane tells (Source), and what is told to it.

    def _wait_for(self, lane: Lane) -> None:
        if self._paused_by is None:
            self._paused_by = lane
            self._lane_free.clear()
            if self._attachment is not None:
                self._attachment.pause()
            lane.wait_for(self)

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
            self._outlet.flush()
            self._cursor.finish()
        finally:
            self._detach()
            self._outlet.close()
            if self._paused_by is not None:
                self._paused_by.forget(self)

    async def _attached(self) -> bool:
        """One attach from its beginning to its end; True when the workload's output is complete."""
        self._early, self._early_bytes = [], 0
        self._held = {}
        self._news.clear()
        if not self._stop.is_set():
            self._over.clear()
            self._ripe.clear()
        self._outlet.open_again()
        self._ended = asyncio.get_running_loop().create_future()
        asked_ns = self._world.clock.now_ns()
        waits = self._look is not None and not self._begun.is_set()
        timeout_s = START_MOST_S if waits else None  # an engine does not answer while it starts the workload
        self._attachment = await self._source.attach(self._workload.id, self, timeout_s=timeout_s)
        self._counts.attaches += 1
        whole = self._outlet.place is None and self._fresh and await self._before_start()
        await self._begun_or_heard(whole)
        self._frames = Demultiplexer(self._workload.tty)
        if self._outlet.place is None and self._fresh and not whole:
            self._outlet.begin_at(max(int(self._workload.started_at * 1e9) - BEFORE_START_NS, 1))
            if not self._attached_before:
                asked_ns = max(asked_ns, self._event_ns)  # the attach had to wait for the start
        self._notices.over("attach", "output of workloads can be read again")
        joint: Joint | None = None
        if self._route.discards:
            self._outlet.place = None  # readers of the live stream get no past
        elif self._outlet.place is None:
            self._outlet.begin_at(asked_ns)
        else:
            past = Past(self._source, self._workload, self._stop.is_set)
            joint = Joint(self._world, past, self._outlet.place, asked_ns, self._hand_on_past)
            await self._join(joint)
        self._go_live()
        await self._until_end(joint)
        assert self._ended is not None
        clean = self._ended.done() and self._ended.result() is None
        self._detach()
        if clean and not self._stop.is_set():
            await self._pause(1.0)  # the end of a workload is known a moment before or after its output ends
        return clean and self._stop.is_set()

    async def _before_start(self) -> bool:
        """Whether this attach is known to be older than the workload's start: then all of its output comes live.

        An engine that starts a workload answers neither attach nor inspection
        of it until it runs. So a workload that was never started when it is
        inspected after the attach, or whose start is noted after the attach
        was answered, has printed nothing before.
        """
        answered_ns = self._world.clock.now_ns()
        if self._look is not None and not self._event_ns and not self._begun.is_set():
            found = await self._look()
            if found is not None and not self._begun.is_set():
                self.readdressed(found)
                return True
        await self._begun.wait()
        return self._source.same_clock and answered_ns < self._event_ns

    async def _begun_or_heard(self, whole: bool) -> None:
        """Until the workload is known to run. Output of a new one waits no longer than its addresses need."""
        if whole and not self._begun.is_set():
            await self._first_news(None, self._begun)
            if not self._begun.is_set() and not self._workload.fixed_addresses:
                await self._set_within(self._begun, ADDRESS_WAIT_S)
        else:
            await self._begun.wait()

    def _go_live(self) -> None:
        early, self._early = self._early or [], None
        for data in early:
            self._live(data)
        if self._paused_by is None and self._attachment is not None:
            self._attachment.resume()

    async def _until_end(self, joint: Joint | None) -> None:
        """Until the attach ends, or the workload has stopped and its last bytes had time to arrive."""
        assert self._ended is not None
        for pause_s in KEPT_LATE_S:
            if joint is not None and self._silent and not self._over.is_set():
                await self._set_within(self._ripe, pause_s)
                if self._silent:
                    await self._rest_of_past(joint)
        while joint is not None and self._held and not self._over.is_set():
            await self._ripe.wait()
            self._ripe.clear()
            await self._join_held(joint, final=False)
        await self._over.wait()
        while not self._ended.done():
            await asyncio.wait({self._ended}, timeout=LAST_BYTES_S)
            if self._paused_by is None:
                break
        if joint is not None and (self._stop.is_set() or (self._ended.done() and self._ended.result() is None)):
            if self._silent:
                await self._rest_of_past(joint)
            await self._join_held(joint, final=True)

    @property
    def _silent(self) -> bool:
        """Whether nothing came live since the attach began in the past."""
        return len(self._held) > 1 and not any(held.parts for held in self._held.values())

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not when the workload stops."""
        await self._set_within(self._stop, seconds)

    @staticmethod
    async def _set_within(event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
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
        self._outlet.note_progress(len(data), now_ns, self._paused_by is not None)
        when = stamp(now)
        for stream, payload in self._frames.feed(data):
            if self._held and stream in self._held:
                self._hold(self._held[stream], payload, now_ns)
            else:
                self._outlet.live(stream, payload, when, now_ns)

    # The joint with past output.

    async def _join(self, joint: Joint) -> None:
        """Hand on what was kept since the place, up to where the live bytes begin in it.

        The first live bytes, whenever they come, are looked up in the kept
        log: only that proves that nothing lies between.
        """
        assert self._ended is not None
        try:
            await joint.locate()
            if later := await joint.before():
                await self._first_news(JOIN_WAIT_S)
            if self._stop.is_set() and not self._ended.done():
                await asyncio.wait({self._ended}, timeout=LAST_BYTES_S)
            live = {stream: data for stream, data in self._early_streams().items() if b"\n" in data}
            if live:
                self._go_on(await joint.meet(live))
            elif later:
                await joint.everything()
            self._held = {stream: _Held() for stream in (STDOUT, STDERR) if stream not in live}
        except EngineUnreachable:
            raise
        except EngineError as error:
            self._say_not_kept(error)

    async def _rest_of_past(self, joint: Joint) -> None:
        """Nothing came live: what was printed before the attach may have been kept a moment after it was looked for."""
        try:
            await joint.everything()
        except EngineUnreachable:
            raise
        except EngineError as error:
            self._say_not_kept(error)

    async def _join_held(self, joint: Joint, final: bool) -> None:
        """Join the streams whose first line has come since. `final`: what is left has no end of a line."""
        for stream, held in list(self._held.items()):
            if not held.ended and not (held.parts and final) and held.size <= self._line_max:
                continue
            live = b"".join(held.parts)
            since_ns = max(held.since_ns - BEFORE_START_NS, 1)
            try:
                if final and not held.ended:
                    self._go_on(await joint.meet({stream: live + b"\n"}, since_ns=since_ns))
                elif held.ended:
                    self._go_on(await joint.meet({stream: live}, since_ns=since_ns))
                else:
                    self._go_on(await joint.meet_open(stream, live, since_ns=since_ns))
            except EngineUnreachable:
                if not final:
                    raise
            except EngineError as error:
                self._say_not_kept(error)
            del self._held[stream]
            now = self._world.clock.now()
            for payload in held.parts:
                self._outlet.live(stream, payload, stamp(now), int(now * 1e9))
        if self._paused_by is None and self._attachment is not None:
            self._attachment.resume()

    def _go_on(self, met: Met) -> None:
        self._counts.unjoined += not met.complete
        self._outlet.go_on(met.skip, met.missing)

    def _hold(self, held: _Held, payload: bytes, now_ns: int) -> None:
        """Keep live bytes until their first line is complete; a workload that prints an endless one has to wait."""
        held.since_ns = held.since_ns or now_ns
        held.parts.append(payload)
        held.size += len(payload)
        if not held.ended and (b"\n" in payload or held.size > self._line_max):
            held.ended = b"\n" in payload
            self._ripe.set()
        if held.size > self._line_max + HELD_MORE and self._attachment is not None:
            self._attachment.pause()

    def _say_not_kept(self, error: EngineError) -> None:
        if self._stop.is_set():
            return  # an engine that removes a workload does not give its log away any more
        self._notices.trouble(
            "history",
            "kept output cannot be read, lines printed while the agent did not listen are missing",
            workload=self._workload.id[:12],
            app=self._workload.app,
            error=str(error),
        )

    async def _first_news(self, timeout_s: float | None, also: asyncio.Event | None = None) -> None:
        """Until live bytes arrive, the attach ends, the workload stops or `also` is set."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (self._early or self._over.is_set() or (also is not None and also.is_set())):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass

    def _early_streams(self) -> dict[int, bytes]:
        """What came live so far, per stream."""
        frames = Demultiplexer(self._workload.tty)
        parts: dict[int, list[bytes]] = {}
        for data in self._early or []:
            for stream, payload in frames.feed(data):
                parts.setdefault(stream, []).append(payload)
        return {stream: b"".join(pieces) for stream, pieces in parts.items()}

    async def _finish_from_past(self) -> None:
        """The workload stopped while its attach was broken or before there was one."""
        if self._outlet.place is None and self._fresh and self._workload.started_at:
            self._outlet.begin_at(max(int(self._workload.started_at * 1e9) - BEFORE_START_NS, 1))
        if self._outlet.place is None or self._outlet.place.finished or self._route.discards:
            return
        self._outlet.open_again()
        past = Past(self._source, self._workload, self._stop.is_set)
        joint = Joint(self._world, past, self._outlet.place, self._world.clock.now_ns(), self._hand_on_past)
        try:
            await joint.locate()
            await joint.everything()
        except EngineError as error:
            _log.debug("rest of a stopped workload's output cannot be read", error=str(error))

    async def _hand_on_past(self, lines: list[PastLine]) -> None:
        self._outlet.past(lines)
        while self._paused_by is not None:
            await self._lane_free.wait()
