"""Docker's framing of attached output, and the lines in it."""

from __future__ import annotations

import struct

_HEAD = struct.Struct(">BxxxL")


class Demultiplexer:
    """Splits an attach stream into (stream, bytes); neighbours of one stream come as one piece."""

    def __init__(self, tty: bool) -> None:
        self._tty = tty
        self._head = b""
        self._left = 0
        self._stream = 1

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Payload of the next bytes; parts of frames are handed on at once."""
        if self._tty:
            return [(1, data)]
        runs: list[tuple[int, list[bytes]]] = []
        at = 0
        if self._head:
            data, self._head = self._head + data, b""
        end = len(data)
        while at < end:
            if not self._left:
                if end - at < 8:
                    self._head = data[at:]
                    break
                kind, self._left = _HEAD.unpack_from(data, at)
                self._stream = 2 if kind == 2 else 1
                at += 8
                continue
            take = min(self._left, end - at)
            if runs and runs[-1][0] == self._stream:
                runs[-1][1].append(data[at : at + take])
            else:
                runs.append((self._stream, [data[at : at + take]]))
            at += take
            self._left -= take
        return [(stream, parts[0] if len(parts) == 1 else b"".join(parts)) for stream, parts in runs]


class LineBuffer:
    """Gathers bytes of one stream into blocks of complete lines."""

    def __init__(self) -> None:
        self._open: list[bytes] = []
        self.size = 0  # bytes of the unfinished line

    def feed(self, data: bytes) -> bytes:
        """All lines completed by `data`, or b""."""
        cut = data.rfind(b"\n") + 1
        if not cut:
            self._open.append(data)
            self.size += len(data)
            return b""
        block = data[:cut]
        if self._open:
            block = b"".join((*self._open, block))
        self._open = [data[cut:]] if cut < len(data) else []
        self.size = len(data) - cut
        return block

    def take(self) -> bytes:
        """The unfinished line, which is forgotten here."""
        rest = b"".join(self._open)
        self._open, self.size = [], 0
        return rest

    def peek(self) -> bytes:
        """The unfinished line."""
        return b"".join(self._open)
