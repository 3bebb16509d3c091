"""Records waiting on disk while their receiver is away: bounded, drained in order, kept over restarts."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

SEGMENT_MAX = 16 << 20  # bytes of one file
_POSITION = struct.Struct("<QQ")
_FIRST = 1 << 40  # numbers below are for what has to go before everything else


class Spool:
    """A queue of newline-terminated records in numbered files. `size` in bytes is what still waits."""

    def __init__(self, directory: Path, max_bytes: int, segment_max: int = SEGMENT_MAX) -> None:
        self._segment_max = segment_max
        self._directory = directory
        self.max_bytes = max_bytes
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._position_fd = os.open(directory / "position", os.O_RDWR | os.O_CREAT, 0o600)
        self._segments: dict[int, int] = self._found()
        self._done, self._offset = self._position()
        self._forget_done()
        self._read_at = self._offset  # may be ahead of the committed offset
        self._read_segment = min(self._segments, default=_FIRST)
        self._write_fd = -1
        self._write_segment = -1
        self.size = sum(self._segments.values()) - self._offset

    def append(self, records: bytes) -> bool:
        """Keep records; False if they do not fit or the disk refuses them."""
        if self.size + len(records) > self.max_bytes:
            return False
        try:
            self._roll()
            written = os.write(self._write_fd, records)
            if written != len(records):
                os.ftruncate(self._write_fd, self._segments[self._write_segment])
                return False
        except OSError:
            return False
        self._segments[self._write_segment] += written
        self.size += written
        return True

    def prepend(self, records: bytes) -> bool:
        """Keep records that go before all others. Ends reading ahead. False if the disk refuses."""
        first = min(self._segments, default=_FIRST + 1)
        head = self._directory / f"{first:020d}"
        try:
            if self._offset:  # the first file was read in part: its rest moves behind the new records
                with open(head, "rb") as file:
                    file.seek(self._offset)
                    kept = file.read()
            else:
                kept = b""
            (self._directory / f"{first - 1:020d}").write_bytes(records + kept)
        except OSError:
            return False
        if self._offset:
            if first == self._write_segment:
                self._close_writer()
            del self._segments[first]
            head.unlink(missing_ok=True)
        self._segments[first - 1] = len(records) + len(kept)
        self.size += len(records)
        self._offset = 0
        self._commit_position(first - 1, 0)
        self.rewind()
        return True

    def read(self, limit: int) -> bytes:
        """The next whole records after those read before, at most about `limit` bytes; b"" when there are none."""
        while True:
            left = self._segments.get(self._read_segment, 0) - self._read_at
            if left > 0:
                with open(self._directory / f"{self._read_segment:020d}", "rb") as file:
                    file.seek(self._read_at)
                    chunk = file.read(min(limit, left))
                    cut = chunk.rfind(b"\n") + 1
                    if not cut:
                        chunk += file.readline()
                        cut = len(chunk)
                self._read_at += cut
                return chunk[:cut]
            later = [number for number in self._segments if number > self._read_segment]
            if not later:
                return b""
            self._read_segment, self._read_at = min(later), 0

    def advance(self, count: int) -> None:
        """The next `count` bytes have been handed on and are not needed any more."""
        self.size -= count
        self._offset += count
        first = min(self._segments)
        while self._offset >= self._segments[first] and (len(self._segments) > 1 or self.size == 0):
            self._offset -= self._segments.pop(first)
            if first == self._write_segment:
                self._close_writer()
            with contextlib.suppress(OSError):
                os.unlink(self._directory / f"{first:020d}")
            if not self._segments:
                self._read_segment, self._read_at, self._offset = _FIRST, 0, 0
                break
            first = min(self._segments)
        self._commit_position(min(self._segments, default=_FIRST), self._offset)

    def rewind(self) -> None:
        """Read again from what was handed on last."""
        self._read_segment = min(self._segments, default=_FIRST)
        self._read_at = self._offset

    def close(self) -> None:
        self._close_writer()
        os.close(self._position_fd)

    def _roll(self) -> None:
        if self._write_fd >= 0 and self._segments[self._write_segment] < self._segment_max:
            return
        self._close_writer()
        number = max(max(self._segments, default=_FIRST - 1) + 1, _FIRST)
        path = self._directory / f"{number:020d}"
        self._write_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._write_segment = number
        self._segments[number] = 0
        if len(self._segments) == 1:
            self._read_segment, self._read_at, self._offset = number, 0, 0

    def _close_writer(self) -> None:
        if self._write_fd >= 0:
            os.close(self._write_fd)
            self._write_fd = self._write_segment = -1

    def _found(self) -> dict[int, int]:
        files = [entry for entry in self._directory.iterdir() if entry.name.isdecimal()]
        return {int(entry.name): entry.stat().st_size for entry in sorted(files)}

    def _position(self) -> tuple[int, int]:
        raw = os.pread(self._position_fd, _POSITION.size, 0)
        return _POSITION.unpack(raw) if len(raw) == _POSITION.size else (0, 0)

    def _commit_position(self, segment: int, offset: int) -> None:
        with contextlib.suppress(OSError):  # a full disk: some records may come twice after a restart
            os.pwrite(self._position_fd, _POSITION.pack(segment, offset), 0)

    def _forget_done(self) -> None:
        """Leave out what the process before had handed on; an offset belongs to the segment it names only."""
        for number in [number for number in self._segments if number < self._done or self._segments[number] == 0]:
            self._segments.pop(number)
            (self._directory / f"{number:020d}").unlink(missing_ok=True)
        first = min(self._segments, default=-1)
        self._offset = min(self._offset, self._segments[first]) if first == self._done else 0
