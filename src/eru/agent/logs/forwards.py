"""Which forward takes the records of a workload, and which one stands in while it is away."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
import threading
from pathlib import Path
from queue import Full, Queue
from urllib.parse import urlsplit

import structlog

from eru.agent.logs.lanes import Commit, Lane
from eru.agent.logs.leftovers import Heir, Moved, settle
from eru.agent.logs.spool import Spool
from eru.agent.logs.transports import (
    JOURNAL_SOCKET,
    DatagramTransport,
    FileTransport,
    TcpTransport,
    Transport,
)
from eru.agent.notices import Notices
from eru.agent.settings import DISCARD, LogSettings, unknown_forward
from eru.lib.world import World

STDOUT_QUEUE_MAX = 256  # blocks waiting for the agent's own standard output
FIRST_TRY_S = 1.0

_log = structlog.get_logger(__name__)


def fnv1a_32(text: str) -> int:
    """FNV-1a of the text's bytes: the published choice of a forward is this modulo their number."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


class StdoutCopy:
    """Prints records on a thread of its own: whoever reads the agent's output cannot stall the agent."""

    def __init__(self) -> None:
        self._queue: Queue[bytes | None] = Queue(STDOUT_QUEUE_MAX)
        self.dropped = 0
        self._thread = threading.Thread(target=self._print, name="log-stdout", daemon=True)
        self._thread.start()

    def put(self, records: bytes, count: int) -> None:
        try:
            self._queue.put_nowait(records)
        except Full:
            self.dropped += count

    def _print(self) -> None:
        while (records := self._queue.get()) is not None:
            sys.stdout.buffer.write(records)
            sys.stdout.buffer.flush()


class Forwards:
    """All lanes of this agent. Without any usable one records are discarded."""

    def __init__(self, settings: LogSettings, hostname: str, state: Path, world: World, notices: Notices) -> None:
        self.lanes: list[Lane | None] = []  # None: discard
        self.discarded = 0
        self.leftovers = Moved()
        self._spools = state / "spool"
        self._mistaken = False
        for forward in settings.forwards:
            why = unknown_forward(forward)
            if why is not None:
                self._mistaken = True
                _log.warning("forward cannot be used, its share of the records is discarded", error=why)
            if why is not None or forward == DISCARD:
                self.lanes.append(None)
                continue
            spool = Spool(self._spools / _directory(forward), settings.spool_max_bytes())
            self.lanes.append(Lane(forward, transport_for(forward, hostname), spool, world, notices))
        self.stdout = StdoutCopy() if settings.stdout else None

    @property
    def live(self) -> list[Lane]:
        return [lane for lane in self.lanes if lane is not None]

    @property
    def discards_all(self) -> bool:
        """Nobody but readers of `/log/` sees any record."""
        return not self.live and self.stdout is None

    async def start(self) -> None:
        """Begin to connect, and give each receiver a moment before the first record chooses."""
        if not self._mistaken:  # what a misspelt forward left waits until it is spelt right again
            await asyncio.to_thread(self._settle_leftovers)
        for lane in self.live:
            lane.start()
        if self.live:
            waits = asyncio.gather(*(lane.first_try.wait() for lane in self.live))
            try:
                async with asyncio.timeout(FIRST_TRY_S):
                    await waits
            except TimeoutError:
                pass

    def _settle_leftovers(self) -> None:
        heirs = [Heir(lane.spool, lane.name.startswith("syslog")) if lane else Heir(None) for lane in self.lanes]
        kept = {_directory(lane.name) for lane in self.live}
        self.leftovers = settle(self._spools, kept, heirs, lambda id: fnv1a_32(id) % len(heirs))

    async def close(self, flush_s: float) -> None:
        await asyncio.gather(*(lane.close(flush_s) for lane in self.live))

    def route(self, id: str) -> Route:
        """The forwards for one workload in order of preference."""
        if not self.lanes:
            return Route(self, [])
        first = fnv1a_32(id) % len(self.lanes)
        return Route(self, self.lanes[first:] + self.lanes[:first])


class Route:
    """One workload's way out: its own forward, the next ones while that is away, its spool if all are."""

    def __init__(self, forwards: Forwards, lanes: list[Lane | None]) -> None:
        self._forwards = forwards
        self._home = lanes[0] if lanes else None
        self._others = [lane for lane in lanes[1:] if lane is not None]

    @property
    def discards(self) -> bool:
        return self._home is None and self._forwards.stdout is None

    def lane(self) -> Lane | None:
        """Where records go now."""
        home = self._home
        if home is None or home.up or home.busy:
            return home
        return next((lane for lane in self._others if lane.up), home)

    def put(self, records: bytes, count: int, commit: Commit, copy: bool = True) -> Lane | None:
        """Hand records on; the lane that took them, so that the caller can wait for it if it is busy."""
        if copy and self._forwards.stdout is not None:
            self._forwards.stdout.put(records, count)
        lane = self.lane()
        if lane is None:
            self._forwards.discarded += count
            commit()
        else:
            lane.put(records, count, commit)
        return lane


def transport_for(forward: str, hostname: str) -> Transport:
    """The transport of a forward that `unknown_forward` accepts."""
    url = urlsplit(forward)
    host, port = url.hostname or "127.0.0.1", url.port or 0
    if url.scheme == "tcp":
        return TcpTransport(host, port)
    if url.scheme == "syslog+tcp":
        return TcpTransport(host, port, syslog_host=hostname)
    if url.scheme == "udp":
        return DatagramTransport((host, port), "json")
    if url.scheme in ("syslog", "syslog+udp"):
        return DatagramTransport((host, port), "syslog", hostname)
    if url.scheme == "journal":
        return DatagramTransport(url.path if len(url.path) > 1 else JOURNAL_SOCKET, "journal")
    return FileTransport(url.path)


def _directory(forward: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", forward)[:60]
    return f"{readable}-{hashlib.sha256(forward.encode()).hexdigest()[:8]}"
