"""Where the agent stopped in a workload's output, on disk after every block it handed on.

A cursor is not an offset, because an attached stream has none. It is the text
of the last lines and the times around them, which together find the place in
the engine's kept log again. Writing it is one `pwrite` without sync: it
survives the death of the agent at any instant, which is what it is for.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import msgspec

TAIL_MAX = 1024  # bytes of last lines kept per stream
_HEAD = struct.Struct("<4sIqqHHB")
_MAGIC = b"ERC1"
_MARGIN_NS = 2_000_000_000  # how much later than its line an engine's clock may stamp


class Place(msgspec.Struct):
    """`since_ns`: no unread line is older. `last_ns`: when the last line was taken. `tails` per stream."""

    since_ns: int
    last_ns: int
    tails: dict[int, bytes]
    finished: bool = False

    def take(self, stream: int, tail: bytes, last_ns: int, since_ns: int) -> None:
        """Lines up to and including `tail` have been taken."""
        self.tails[stream] = tail
        self.last_ns = max(self.last_ns, last_ns)
        self.since_ns = max(self.since_ns, since_ns - _MARGIN_NS)
        self.finished = False


class Cursor:
    """One workload's place, in one small file. Errors of the disk only cost precision after a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._removed = False
        self.place: Place | None = self._load()
        self.write_failed = False
        self._order = 0

    def start(self, now_ns: int) -> None:
        """Remember that from `now_ns` on every line is wanted."""
        if self.place is None:
            self.place = Place(now_ns, now_ns, {1: b"", 2: b""})
            self._save()

    def advance(self, order: int, stream: int, tail: bytes, last_ns: int, since_ns: int) -> None:
        """Lines up to and including `tail` are handed on; an older `order` than before changes nothing."""
        if order < self._order:
            return
        self._order = order
        place = self.place
        if place is None:
            place = self.place = Place(since_ns, last_ns, {1: b"", 2: b""})
        place.take(stream, tail, last_ns, since_ns)
        self._save()

    def finish(self) -> None:
        """This run has ended and all of it was handed on."""
        if self.place is not None:
            self.place.finished = True
            self._save()

    def remove(self) -> None:
        """The workload is gone: from now on nothing is written any more."""
        self._removed = True
        self._close()
        self._path.unlink(missing_ok=True)

    def __del__(self) -> None:
        self._close()  # a lane may hold the last reference, long after the pump has ended

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _load(self) -> Place | None:
        try:
            raw = self._path.read_bytes()
            magic, crc, since_ns, last_ns, first, second, finished = _HEAD.unpack_from(raw)
            body = raw[8 : _HEAD.size + first + second]
            if magic != _MAGIC or zlib.crc32(body) != crc:
                return None
            tails = {1: raw[_HEAD.size : _HEAD.size + first], 2: raw[_HEAD.size + first : _HEAD.size + first + second]}
            return Place(since_ns, last_ns, tails, bool(finished))
        except (OSError, struct.error):
            return None

    def _save(self) -> None:
        place = self.place
        if place is None or self._removed:
            return
        first, second = place.tails[1], place.tails[2]
        head = _HEAD.pack(_MAGIC, 0, place.since_ns, place.last_ns, len(first), len(second), place.finished)
        body = head[8:] + first + second
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            os.pwrite(self._fd, head[:4] + zlib.crc32(body).to_bytes(4, "little") + body, 0)
        except OSError:
            self.write_failed = True


def tail_of(block: bytes) -> bytes:
    """The last lines of a block, at most TAIL_MAX bytes, from a line's beginning where that fits."""
    if len(block) <= TAIL_MAX:
        return block
    tail = block[-TAIL_MAX:]
    cut = tail.find(b"\n") + 1
    return tail[cut:] if 0 < cut < len(tail) else tail
