"""Finding the place in kept output again, and joining it with live output without a gap or a repeat."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eru.agent.logs.cursor import TAIL_MAX, Place
from eru.agent.runtime import PastLine


class Anchor(msgspec.Struct):
    """For each stream: kept lines up to this time (nanoseconds) were handed on before."""

    upto_ns: dict[int, int]

    @property
    def since_ns(self) -> int:
        return min(self.upto_ns.values())

    def is_new(self, line: PastLine) -> bool:
        return line.time_ns > self.upto_ns.get(line.stream, 0)


class AnchorSearch:
    """Reads kept lines once and tells where each stream's last handed-on lines are among them.

    The text of the last lines decides; where it occurs several times, the
    place nearest to the time they were handed on; where it does not occur at
    all (rotated away, or never kept by an engine that died), the time alone.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._recent = {1: b"", 2: b""}
        self._whole: dict[int, int] = {}
        self._last_line: dict[int, int] = {}
        self._lasts = {stream: _last_line(tail) for stream, tail in place.tails.items()}

    def feed(self, line: PastLine) -> None:
        stream, tail = line.stream, self._place.tails.get(line.stream, b"")
        if not tail:
            return
        data = normal(line.data)
        recent = self._recent[stream] = (self._recent[stream] + data)[-2 * TAIL_MAX :]
        if recent.endswith(tail):
            self._keep_nearest(self._whole, line)
        elif data == self._lasts[stream]:
            self._keep_nearest(self._last_line, line)

    def anchor(self) -> Anchor:
        upto = {}
        for stream in (1, 2):
            found = self._whole.get(stream, self._last_line.get(stream))
            if self._place.tails.get(stream):
                upto[stream] = found if found is not None else self._place.last_ns
            else:
                upto[stream] = min(self._place.since_ns, self._place.last_ns)
        return Anchor(upto)

    def _keep_nearest(self, best: dict[int, int], line: PastLine) -> None:
        last_ns = self._place.last_ns
        if line.stream not in best or abs(line.time_ns - last_ns) <= abs(best[line.stream] - last_ns):
            best[line.stream] = line.time_ns


def overlap(past: Sequence[PastLine], live: bytes, attached_ns: int) -> int | None:
    """How many of the kept lines come before the first live byte; None if the two do not meet.

    `past` are the lines of one stream around the moment `attached_ns` of the
    attach, `live` what the attach has delivered so far, which may begin inside
    a line. The kept line that `live` begins with counts as live.
    """
    head, newline, rest = normal(live).partition(b"\n")
    head += newline
    best: int | None = None
    for index, line in enumerate(past):
        data = normal(line.data)
        begins = data.endswith(head) if newline else head in data
        if not begins:
            continue
        following = b"".join(normal(other.data) for other in past[index + 1 : index + 200])
        if newline and not (rest.startswith(following) or following.startswith(rest)):
            continue
        if best is None or abs(line.time_ns - attached_ns) < abs(past[best].time_ns - attached_ns):
            best = index
    return best


def normal(data: bytes) -> bytes:
    """Line ends as in records: without the carriage return."""
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


def _last_line(tail: bytes) -> bytes:
    return tail[tail.rfind(b"\n", 0, -1) + 1 :] if tail else b""
