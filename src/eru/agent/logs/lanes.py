"""A lane brings records to one receiver: in order, with a spool while it is away, pausing its sources when it is slow.

States: *away* (no connection, or a receiver that does not take anything):
records go to the spool; *draining*: connected, the spool is sent first and new
records queue behind it; *up*: records go straight to the kernel.

A record counts as handed on when the kernel has taken it or the spool holds
it. What a connection had taken but the receiver's kernel never confirmed when
it broke is put back to the head of the spool, so it may come twice in part but
is not lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from eru.agent.logs.spool import Spool
from eru.agent.logs.transports import Transport
from eru.agent.notices import Notices
from eru.lib.retry import Backoff
from eru.lib.tasks import TaskOwner
from eru.lib.world import World

PENDING_HIGH = 1 << 20  # bytes waiting for the kernel before sources are paused
PENDING_LOW = 256 << 10
DRAIN_CHUNK = 256 << 10
CONFIRM_ABOVE = 512 << 10  # bytes sent before the kernel is asked what was confirmed
CONNECT_S = 5.0
STALLED_S = 5.0  # a receiver that takes nothing for so long is away
RECONNECT_FIRST_S = 0.05
RECONNECT_MOST_S = 5.0
CHECK_S = 1.0
SETTLED_S = 10.0  # after a connection that broke early, the next must work so long before that is said

_log = structlog.get_logger(__name__)
Commit = Callable[[], None]


class Source(Protocol):
    """Whoever is paused while a lane is busy."""

    def lane_ready(self) -> None: ...


class _Block(msgspec.Struct):
    """Bytes on their way. `begin`: offset in this connection's stream; `spooled`: the records came from the spool."""

    data: bytes
    records: bytes
    begin: int
    commit: Commit | None
    spooled: bool
    done: int = 0


class Counts(msgspec.Struct):
    """Since the start of the process."""

    records: int = 0
    bytes: int = 0
    dropped: int = 0
    spooled: int = 0
    repeated: int = 0
    connects: int = 0


class Lane:
    """`name`: the forward as configured. `max_drain_bytes`: a fuller spool pauses sources while it drains."""

    def __init__(self, name: str, transport: Transport, spool: Spool, world: World, notices: Notices) -> None:
        self.name = name
        self.transport = transport
        self.spool = spool
        self.counts = Counts()
        self._world = world
        self._notices = notices
        self._connected = False
        self._stalled = False
        self._draining = spool.size > 0
        self._pending: deque[_Block] = deque()
        self._pending_bytes = 0
        self._sent: deque[_Block] = deque()
        self._sent_bytes = 0
        self._written = 0  # offset in this connection's stream
        self._writing = False
        self._progress_at = 0.0
        self._flapping = False  # the last connection broke early or was stalled
        self._broken = asyncio.Event()
        self._sources: set[Source] = set()
        self._owner = TaskOwner("lane")
        self.first_try = asyncio.Event()

    @property
    def up(self) -> bool:
        """Whether new records go straight to the receiver."""
        return self._connected and not self._stalled and not self._draining

    @property
    def busy(self) -> bool:
        """Whether sources should wait."""
        if self.up:
            return self._pending_bytes >= PENDING_HIGH
        return self._connected and not self._stalled and self.spool.size > self.spool.max_bytes // 2

    def start(self) -> None:
        self._draining = self.spool.size > 0  # it may have inherited records since it was made
        self._owner.start(self.name, self._keep_connected())
        self._owner.start(f"{self.name} check", self._check())

    async def close(self, flush_s: float) -> None:
        """Give pending records `flush_s` seconds, then keep the rest in the spool."""
        deadline = self._world.clock.monotonic() + flush_s
        while self._connected and not self._stalled and self._pending and self._world.clock.monotonic() < deadline:
            await self._world.clock.sleep(0.01)
        await self._owner.close()
        self.spool.close()

    def put(self, records: bytes, count: int, commit: Commit | None) -> None:
        """Take newline-terminated records; `commit` is called when they are handed on."""
        self.counts.records += count
        self.counts.bytes += len(records)
        if self.up:
            self._enqueue(records, commit, spooled=False)
            if not self._writing:
                self._flush()
            return
        self._to_spool(records, count)
        if commit is not None:
            commit()
        if self._connected and not self._stalled and not self._pending:
            self._flush()

    def wait_for(self, source: Source) -> None:
        """Call `source.lane_ready()` once this lane is not busy any more."""
        self._sources.add(source)

    def forget(self, source: Source) -> None:
        self._sources.discard(source)

    def _to_spool(self, records: bytes, count: int) -> None:
        if self.spool.append(records):
            self.counts.spooled += count
            self._draining = True
            return
        self.counts.dropped += count
        self._notices.trouble(
            f"spool {self.name}",
            "log records are dropped: the receiver is away and its spool is full or cannot be written",
            forward=self.name,
            dropped=self.counts.dropped,
            spool_bytes=self.spool.size,
        )

    def _enqueue(self, records: bytes, commit: Commit | None, spooled: bool) -> None:
        """Bytes of a stream belong together; datagrams go, and come back to the spool, record by record."""
        parts = records.splitlines(keepends=True) if self.transport.datagrams else [records]
        for part in parts:
            *first, last = self.transport.encode(part)
            for unit in first:
                self._wait(_Block(unit, b"", 0, None, spooled))
            self._wait(_Block(last, part, 0, commit if part is parts[-1] else None, spooled))

    def _wait(self, block: _Block) -> None:
        self._pending.append(block)
        self._pending_bytes += len(block.data)

    def _flush(self) -> None:
        """Hand the kernel what it takes; ask to be called again if something is left."""
        try:
            self._send_pending()
            while self._draining and not self._pending and self._connected:
                chunk = self.spool.read(DRAIN_CHUNK)
                if not chunk:
                    self._draining = False
                    self._notices.over(f"spool {self.name}", "log records are taken again", forward=self.name)
                    break
                self._enqueue(chunk, None, spooled=True)
                self._send_pending()
        except BlockingIOError:
            self._want_writable(True)
        except OSError as error:
            self._want_writable(False)
            self._notices.trouble(
                f"forward {self.name}", "log receiver is gone, trying on", forward=self.name, error=str(error)
            )
            self._broken.set()
        else:
            self._want_writable(False)
        self._wake_sources()

    def _send_pending(self) -> None:
        pending = self._pending
        while pending:
            block = pending[0]
            if not block.done:
                block.begin = self._written
            view = memoryview(block.data)[block.done :]
            taken = self.transport.send(view)
            self._progress_at = self._world.clock.monotonic()
            if self._stalled:
                self._stalled = False
                self._notices.over(f"forward {self.name}", "log receiver takes records again", forward=self.name)
            block.done += taken
            self._written += taken
            self._pending_bytes -= taken
            if block.done == len(block.data):
                pending.popleft()
                self._handed_on(block)

    def _handed_on(self, block: _Block) -> None:
        if block.spooled and block.records:
            self.spool.advance(len(block.records))
        if block.commit is not None:
            block.commit()
            block.commit = None  # it holds a cursor with its open file; the block may wait long for its confirmation
        if self.transport.datagrams or self.transport.acknowledged() is None:
            return
        self._sent.append(block)
        self._sent_bytes += len(block.data)
        if self._sent_bytes > CONFIRM_ABOVE:
            self._forget_confirmed()

    def _forget_confirmed(self) -> None:
        confirmed = self.transport.acknowledged() or 0
        while self._sent and self._sent[0].begin + len(self._sent[0].data) <= confirmed:
            self._sent_bytes -= len(self._sent.popleft().data)

    def _lost(self) -> None:
        """The connection ended: bring everything unconfirmed to the spool, in order."""
        confirmed = self.transport.acknowledged()
        again = b"".join(_unconfirmed(block, confirmed) for block in self._sent) if confirmed is not None else b""
        pending = list(self._pending)
        self._sent.clear()
        self._pending.clear()
        self._sent_bytes = self._pending_bytes = 0
        if pending and pending[0].spooled and pending[0].done and confirmed is not None:
            self._advance_part(pending[0], confirmed)
        self.spool.rewind()
        if again:
            self.counts.repeated += again.count(b"\n")
            self._draining = True
            if not self.spool.prepend(again):
                self.counts.dropped += again.count(b"\n")
        for block in pending:
            if not block.spooled:
                rest = _unconfirmed(block, confirmed) if block.done and confirmed is not None else block.records
                if rest:
                    self._to_spool(rest, rest.count(b"\n"))
                if block.commit is not None:
                    block.commit()
        self._draining = self._draining or self.spool.size > 0

    def _advance_part(self, block: _Block, confirmed: int) -> None:
        """Records of a spooled block that the receiver confirmed before the break need no repeat."""
        confirmed_lines = block.data.count(b"\n") - _unconfirmed(block, confirmed).count(b"\n")
        if done := _length_of_lines(block.records, confirmed_lines):
            self.spool.advance(done)

    def _stall(self) -> None:
        """The receiver keeps its connection but takes nothing: what has not begun to leave goes to the spool."""
        self._stalled = True
        waiting = [block for block in list(self._pending)[1:] if not block.spooled]
        for block in waiting:
            self._pending.remove(block)
            self._pending_bytes -= len(block.data)
            if block.records:
                self._to_spool(block.records, block.records.count(b"\n"))
            if block.commit is not None:
                block.commit()

    def _want_writable(self, wanted: bool) -> None:
        if wanted == self._writing:
            return
        loop = asyncio.get_running_loop()
        self._writing = wanted
        if wanted:
            loop.add_writer(self.transport.fileno(), self._flush)
        elif self.transport.fileno() >= 0:
            loop.remove_writer(self.transport.fileno())

    def _readable(self) -> None:
        if self.transport.closed_by_peer():
            self._broken.set()
            asyncio.get_running_loop().remove_reader(self.transport.fileno())

    def _wake_sources(self) -> None:
        if self._sources and not self.busy and self._pending_bytes <= PENDING_LOW:
            waiting, self._sources = self._sources, set()
            for source in waiting:
                source.lane_ready()

    async def _keep_connected(self) -> None:
        backoff = Backoff(self._world, first_s=RECONNECT_FIRST_S, most_s=RECONNECT_MOST_S)
        key = f"forward {self.name}"
        while True:
            try:
                await self.transport.open(CONNECT_S)
            except (OSError, TimeoutError) as error:
                self._notices.trouble(
                    key,
                    "log receiver cannot be reached, records wait in the spool",
                    forward=self.name,
                    error=str(error) or "timed out",
                )
                self.first_try.set()
                await backoff.wait()
                continue
            self.counts.connects += 1
            connected_at = self._world.clock.monotonic()
            await self._live(key)
            lived_s = self._world.clock.monotonic() - connected_at
            self._flapping = self._stalled or lived_s < SETTLED_S
            if lived_s > RECONNECT_MOST_S:
                backoff.reset()
            await backoff.wait()

    async def _live(self, key: str) -> None:
        """One connection until it breaks. `key`: of the notice that may be over with it."""
        loop = asyncio.get_running_loop()
        self._broken.clear()
        self._written = 0
        self._connected, self._stalled = True, False
        self._progress_at = self._world.clock.monotonic()
        watched = self.transport.fileno()
        if self.transport.pollable:
            loop.add_reader(watched, self._readable)
        if not self._flapping:
            self._notices.over(key, "log receiver is reached again", forward=self.name)
        self._flush()
        self.first_try.set()
        try:
            if self._flapping and not await self._breaks_within(SETTLED_S) and not self._stalled:
                self._notices.over(key, "log receiver is reached again", forward=self.name)
            await self._broken.wait()
        finally:
            self._connected = False
            self._want_writable(False)
            if self.transport.pollable:
                loop.remove_reader(watched)
            self._lost()
            self.transport.close()
            self._wake_sources()

    async def _breaks_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._broken.wait()
        except TimeoutError:
            return False

    async def _check(self) -> None:
        """Notice a receiver that keeps its connection but takes nothing."""
        while True:
            await self._world.clock.sleep(CHECK_S)
            if self._connected and not self._stalled and self._pending and self._quiet_s() > STALLED_S:
                self._stall()
                self._notices.trouble(
                    f"forward {self.name}", "log receiver takes nothing, records wait in the spool", forward=self.name
                )
            self._wake_sources()

    def _quiet_s(self) -> float:
        return self._world.clock.monotonic() - self._progress_at


def _unconfirmed(block: _Block, confirmed: int) -> bytes:
    """The units of a block that were not confirmed in full."""
    if confirmed <= block.begin:
        return block.data
    return block.data[block.data.rfind(b"\n", 0, min(confirmed - block.begin, len(block.data))) + 1 :]


def _length_of_lines(records: bytes, count: int) -> int:
    """Bytes of the first `count` records."""
    at = 0
    for _ in range(count):
        at = records.find(b"\n", at) + 1
    return at
