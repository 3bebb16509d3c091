"""Docker's output: multiplexed frames, and whole lines out of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

from eru.engine.contract import Chunk, Stream
from eru.model.errors import EngineUnreachable

HEADER_BYTES = 8
FRAME_BYTES_MAX = 16 << 20
LINE_BYTES_MAX = 1 << 20  # a longer line is cut into pieces of this size


class Demux:
    """Feeds on bytes, gives (stream, data) pieces; a piece never spans two frames.

    `whole`: a frame comes out in one piece (needed for timestamps), else as soon as any of it is there.
    """

    def __init__(self, whole: bool = False) -> None:
        self._whole = whole
        self._pending = bytearray()
        self._left = 0
        self._stream = Stream.STDOUT

    def feed(self, data: bytes) -> Iterator[tuple[Stream, bytes]]:
        self._pending += data
        while True:
            if self._left == 0 and not self._head():
                return
            ready = min(self._left, len(self._pending))
            if self._left and (ready == 0 or (self._whole and ready < self._left)):
                return
            if ready:
                piece = bytes(self._pending[:ready])
                del self._pending[:ready]
                self._left -= ready
                yield self._stream, piece

    def _head(self) -> bool:
        if len(self._pending) < HEADER_BYTES:
            return False
        kind, size = self._pending[0], int.from_bytes(self._pending[4:8], "big")
        if kind > 3 or size > FRAME_BYTES_MAX:
            raise EngineUnreachable("Docker's output stream is out of step")
        del self._pending[:HEADER_BYTES]
        self._stream = Stream.STDERR if kind == 2 else Stream.STDOUT
        self._left = size
        return True


async def pieces(chunks: AsyncIterator[bytes], tty: bool, whole: bool = False) -> AsyncIterator[tuple[Stream, bytes]]:
    """(stream, data) out of a body; a tty has only one stream."""
    demux = Demux(whole)
    async for chunk in chunks:
        if tty:
            yield Stream.STDOUT, chunk
        else:
            for piece in demux.feed(chunk):
                yield piece


async def lines(source: AsyncIterator[tuple[Stream, bytes]], stamped: bool, tty: bool) -> AsyncIterator[Chunk]:
    """Whole lines with their newline; the last one may lack it.

    `stamped`: Docker put a time in front of each frame (of each line for a tty).
    """
    pending = {stream: bytearray() for stream in Stream}
    times = dict.fromkeys(Stream, 0)
    async for stream, data in source:
        if stamped and not tty:
            time_ns, data = _unstamp(data)
            if not pending[stream]:
                times[stream] = time_ns
        buffer = pending[stream]
        buffer += data
        while (end := _cut(buffer)) > 0:
            line = bytes(buffer[:end])
            del buffer[:end]
            if stamped and tty:
                times[stream], line = _unstamp(line)
            yield Chunk(stream, line, times[stream])
    for stream, buffer in pending.items():
        if buffer:
            line = bytes(buffer)
            if stamped and tty:
                times[stream], line = _unstamp(line)
            yield Chunk(stream, line, times[stream])


def _cut(buffer: bytearray) -> int:
    """Where the first line ends; 0 when it is not complete."""
    end = buffer.find(b"\n", 0, LINE_BYTES_MAX) + 1
    return end or (LINE_BYTES_MAX if len(buffer) >= LINE_BYTES_MAX else 0)


def _unstamp(data: bytes) -> tuple[int, bytes]:
    stamp, space, rest = data.partition(b" ")
    if not space:
        return 0, data
    try:
        return stamp_ns(stamp.decode()), rest
    except ValueError:
        return 0, data


def stamp_ns(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time with up to nine decimals. Raises ValueError."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    offset = ""
    for sign in "+-":
        if sign in fraction:
            fraction, _, zone = fraction.partition(sign)
            offset = sign + zone
    at = datetime.fromisoformat(whole + offset)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return int(at.timestamp()) * 1_000_000_000 + int((fraction or "0").ljust(9, "0")[:9])
