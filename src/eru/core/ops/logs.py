"""Output of workloads: of one, or of all instances of an app in one ordered stream."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import msgspec

from eru.core.app import Core
from eru.core.ops.reach import reach
from eru.core.ops.streams import closing, until_drained
from eru.engine.contract import Capability, Chunk, Stream
from eru.engine.times import point_ns, unix_text
from eru.lib.tasks import TaskOwner, task_owner
from eru.model.errors import EruError, InvalidInput, NotFound
from eru.model.names import check_entrypoint, check_name
from eru.store.contract import range_all

SOURCES_MAX = 1_000  # workloads read by one ordered stream
SOURCE_LINES_MAX = 256  # read ahead of one workload
ORDER_WINDOW_S = 0.25  # how long a line waits for an older one of another workload
LOOK_EVERY_S = 0.5  # for new instances, while following


class LogRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`since`, `until`: Unix seconds, RFC 3339, or a duration back from now."""

    tail: str = "all"
    since: str = ""
    until: str = ""
    follow: bool = False


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line with its newline, or an error about one workload."""

    id: str
    data: bytes = b""
    stream: Stream = Stream.STDOUT
    name: str = ""
    nodename: str = ""
    time_ns: int = 0
    error: str = ""


async def log_stream(core: Core, id: str, request: LogRequest) -> AsyncIterator[LogLine]:
    """One workload's lines. A failure is one line with `error`; nothing is raised."""
    try:
        found = await reach(core, id, Capability.LOGS)
        source = found.engine.logs(found.workload.id, **_arguments(core, request), timestamps=False)
        async with closing(until_drained(core, source)) as chunks:
            async for chunk in chunks:
                yield LogLine(id=id, data=chunk.data, stream=chunk.stream)
    except EruError as error:
        yield LogLine(id=id, error=str(error))


async def app_logs(
    core: Core, app: str, entrypoint: str, ids: Sequence[str], request: LogRequest
) -> AsyncIterator[LogLine]:
    """Lines of all instances, oldest first, each with its time.

    To go on after a break, pass the last line's `time_ns` + 1 as `since`
    (seconds with nine decimals). While following, new instances join. Lines
    of different workloads are in order as long as their engines deliver them
    within ORDER_WINDOW_S of each other. Raises InvalidInput and NotFound.
    """
    if ids:
        wanted = [stored.workload.id for stored in await core.workloads(ids)]
    else:
        check_name("app name", app)
        if entrypoint:
            check_entrypoint(entrypoint)
        wanted = await _ids(core, app, entrypoint)
        if not wanted and not request.follow:
            raise NotFound(f"app {app!r} has no workloads" + (f" of entrypoint {entrypoint!r}" if entrypoint else ""))
    if len(wanted) > SOURCES_MAX:
        raise InvalidInput(f"{len(wanted)} workloads match, at most {SOURCES_MAX} can be read in one stream")
    merge = _Merge(core, request)
    async with closing(until_drained(core, merge.run(wanted, "" if ids else app, entrypoint))) as lines:
        async for line in lines:
            yield line


async def _ids(core: Core, app: str, entrypoint: str) -> list[str]:
    items, _ = await range_all(core.store, core.keys.of_app(app, entrypoint), keys_only=True)
    return [core.keys.split(item.key)[1][-1] for item in items]


@dataclass(slots=True)
class _Source:
    """One workload's lines, read ahead; None at the end."""

    queue: asyncio.Queue[LogLine | None]
    waiting: bool = False  # its head is in the heap
    ended: bool = False


class _Merge:
    """Merges many followed logs by time."""

    def __init__(self, core: Core, request: LogRequest) -> None:
        self._core, self._request = core, request
        self._sources: dict[str, _Source] = {}
        self._heads: list[tuple[int, int, float, LogLine]] = []
        self._open = 0  # sources that have not ended
        self._number = count()
        self._news = asyncio.Event()

    async def run(self, ids: Sequence[str], app: str, entrypoint: str) -> AsyncIterator[LogLine]:
        """`app` empty: only `ids`, no new ones."""
        async with task_owner("app logs") as tasks:
            for id in dict.fromkeys(ids):
                self._join(tasks, id, self._request)
            if self._request.follow and app:
                tasks.start("look for new instances", self._look(tasks, app, entrypoint))
            while True:
                if self._news.is_set():
                    self._news.clear()
                    for id in self._sources:
                        self._pull(id)
                if (line := self._ripe()) is not None:
                    yield line
                    self._pull(line.id)
                elif not self._heads and not self._open and not (self._request.follow and app):
                    return
                else:
                    await self._wait()

    def _join(self, tasks: TaskOwner, id: str, request: LogRequest) -> None:
        source = self._sources[id] = _Source(asyncio.Queue(SOURCE_LINES_MAX))
        self._open += 1
        tasks.start(f"read {id}", self._read(id, source, request))

    async def _read(self, id: str, source: _Source, request: LogRequest) -> None:
        try:
            found = await reach(self._core, id, Capability.LOGS)
            name, nodename = found.workload.name, found.workload.nodename
            arguments = _arguments(self._core, request)
            chunk: Chunk
            async for chunk in found.engine.logs(id, **arguments, timestamps=True):
                await source.queue.put(
                    LogLine(
                        id=id,
                        name=name,
                        nodename=nodename,
                        data=chunk.data,
                        stream=chunk.stream,
                        time_ns=chunk.time_ns,
                    )
                )
                self._news.set()
        except EruError as error:
            await source.queue.put(LogLine(id=id, error=str(error), time_ns=self._core.world.clock.now_ns()))
        await source.queue.put(None)
        self._news.set()

    async def _look(self, tasks: TaskOwner, app: str, entrypoint: str) -> None:
        """Let instances that are deployed later join, with all they have printed."""
        known = len(self._sources)
        while True:
            await self._core.world.clock.sleep(LOOK_EVERY_S)
            for id in await _ids(self._core, app, entrypoint):
                if id not in self._sources and len(self._sources) < SOURCES_MAX:
                    self._join(tasks, id, LogRequest(until=self._request.until, follow=True))
            if len(self._sources) != known:
                known = len(self._sources)
                self._news.set()

    def _pull(self, id: str) -> None:
        """The source's next line onto the heap, unless one of its lines is there already."""
        source = self._sources[id]
        if source.waiting or source.ended or source.queue.empty():
            return
        line = source.queue.get_nowait()
        if line is None:
            source.ended = True
            self._open -= 1
            return
        source.waiting = True
        came = self._core.world.clock.monotonic()
        heapq.heappush(self._heads, (line.time_ns, next(self._number), came, line))

    def _ripe(self) -> LogLine | None:
        """The oldest line, when no older one can come or it has waited long enough."""
        if not self._heads:
            return None
        _, _, came, line = self._heads[0]
        if len(self._heads) < self._open and self._core.world.clock.monotonic() - came < ORDER_WINDOW_S:
            return None
        heapq.heappop(self._heads)
        self._sources[line.id].waiting = False
        return line

    async def _wait(self) -> None:
        """For news, or until the oldest line is ripe."""
        left: float | None = None
        if self._heads:
            left = max(ORDER_WINDOW_S - (self._core.world.clock.monotonic() - self._heads[0][2]), 0.001)
        try:
            async with asyncio.timeout(left):
                await self._news.wait()
        except TimeoutError:
            return


def _arguments(core: Core, request: LogRequest) -> dict[str, Any]:
    """Checked before an engine sees them. Raises InvalidInput."""
    tail = request.tail or "all"
    if tail[0] == "-" and tail[1:].isdecimal():
        tail = "all"  # as Docker takes it
    if tail != "all" and not tail.isdecimal():
        raise InvalidInput(f"tail {request.tail!r} must be a number of lines, or all")
    now_ns = core.world.clock.now_ns()
    times = {
        name: unix_text(point_ns(text, now_ns)) if text else ""
        for name, text in (("since", request.since), ("until", request.until))
    }
    return {"tail": tail, "follow": request.follow, **times}
