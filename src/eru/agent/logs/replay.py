"""Finding the place in kept output again, and joining it with live output without a gap or a repeat."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from eru.agent.logs.cursor import TAIL_MAX, Place
from eru.agent.runtime import PastLine

LOOK_LINES = 50  # live lines compared before two places count as the same
LOOK_BYTES = 64 << 10
OPEN_LOOK_BYTES = 256  # of a line without its end, to find places to compare in full
_INVALID = re.compile("[\udc80-\udcff]")


class Anchor(msgspec.Struct):
    """For each stream: kept lines up to this time (nanoseconds) were handed on before."""

    upto_ns: dict[int, int]

    @property
    def since_ns(self) -> int:
        return min(self.upto_ns.values())

    def is_new(self, line: PastLine) -> bool:
        return line.time_ns > self.upto_ns.get(line.stream, 0)

    def passed(self, lines: Sequence[PastLine]) -> None:
        """These lines have been handed on."""
        for line in lines:
            self.upto_ns[line.stream] = max(self.upto_ns.get(line.stream, 0), line.time_ns)


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
        self._tails = {stream: as_kept(tail) for stream, tail in place.tails.items()}
        self._lasts = {stream: _last_line(tail) for stream, tail in self._tails.items()}

    def feed(self, line: PastLine) -> None:
        stream, tail = line.stream, self._tails.get(line.stream, b"")
        if not tail:
            return
        data = as_kept(line.data)
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


def live_lines(live: dict[int, bytes]) -> dict[int, list[bytes]]:
    """The first complete lines of what an attach has delivered; the very first may lack its beginning."""
    found = {}
    for stream, data in live.items():
        if (first := data.find(b"\n") + 1) > 0:  # an unfinished line cannot be among the kept ones yet
            head = as_kept(data[: max(LOOK_BYTES, first)])
            found[stream] = [part + b"\n" for part in head.split(b"\n")[:-1]][:LOOK_LINES]
    return found


def missing_of_open_line(kept: PastLine, live: bytes, asked_ns: int) -> bytes:
    """The beginning of a line still being printed, up to where `live`, which came since the attach, goes on.

    What was kept before the attach was asked for lies before it. After that
    the first place counts from which kept and live bytes agree to the end of
    either; a line that repeats itself may agree too early, by what was printed
    between the question and its effect at most. Without such a place there is
    a gap, and all that is kept goes before.
    """
    data, live = normal(kept.data), as_kept(live)
    at = min(sum(size for time_ns, size in kept.parts if time_ns < asked_ns), len(data))
    while at < len(data):
        common = min(len(data) - at, len(live))
        if data[at : at + common] == live[:common]:
            return data[:at]
        found = data.find(live[:OPEN_LOOK_BYTES], at + 1)
        at = found if found >= 0 else _last_chance(data, live, at + 1)
    return data


def _last_chance(data: bytes, live: bytes, start: int) -> int:
    """Where the very end of `data` could be the beginning of `live`, when less than a look is left."""
    begin = max(start, len(data) - OPEN_LOOK_BYTES)
    return next((at for at in range(begin, len(data)) if live.startswith(data[at:])), len(data))


def already_known(known: Sequence[PastLine], live: dict[int, list[bytes]]) -> dict[int, int]:
    """Streams whose live bytes begin inside `known` lines -> how many lines of them are known."""
    skips = {}
    for stream, first in live.items():
        lines = [as_kept(line.data) for line in known if line.stream == stream]
        for at, data in enumerate(lines):
            after = min(len(lines) - at, len(first))
            if data.endswith(first[0]) and lines[at + 1 : at + after] == first[1:after]:
                skips[stream] = len(lines) - at
                break
    return skips


class Joiner:
    """Lets kept lines through until they reach what the attach has delivered.

    `live`: per stream the first lines that came, see `live_lines`. Kept lines
    from before `asked_ns`, when the attach was asked for, cannot be in it;
    later ones are compared until the first live line is found, with the lines
    after it. From there on the live bytes count.
    """

    def __init__(self, asked_ns: int, live: dict[int, list[bytes]]) -> None:
        self._asked_ns = asked_ns
        self._live = live
        self._held: dict[int, list[PastLine]] = {}
        self._met_ns = 0
        self.missing: dict[int, bytes] = {}  # stream that has met -> beginning of its first live line

    @property
    def complete(self) -> bool:
        """All streams that have live lines have met."""
        return len(self.missing) == len(self._live)

    def feed(self, lines: Sequence[PastLine]) -> list[PastLine]:
        """The lines that certainly come before the live bytes."""
        out: list[PastLine] = []
        for line in lines:
            if line.time_ns < self._asked_ns:
                out.append(line)
            elif line.stream not in self.missing:
                self._held.setdefault(line.stream, []).append(line)
                if line.stream in self._live:
                    self._decide(line.stream, out, final=False)
        return out

    def settle(self) -> list[PastLine]:
        """The kept log ended: decide with fewer lines to compare."""
        out: list[PastLine] = []
        for stream in self._live:
            if stream not in self.missing:
                self._decide(stream, out, final=True)
        return out

    def rest(self) -> list[PastLine]:
        """What is still held and will not come live."""
        out: list[PastLine] = []
        for stream, lines in self._held.items():
            if stream not in self.missing:
                out.extend(line for line in lines if not self._met_ns or line.time_ns < self._met_ns)
        self._held = {}
        return out

    def _decide(self, stream: int, out: list[PastLine], final: bool) -> None:
        held, live = self._held.get(stream, []), self._live[stream]
        for at, line in enumerate(held):
            data = as_kept(line.data)
            if not data.endswith(live[0]):
                continue
            after = min(len(held) - at, len(live))
            if after < len(live) and not final:
                out.extend(held[:at])
                del held[:at]
                return  # more kept lines are needed to be sure
            if all(as_kept(held[at + n].data) == live[n] for n in range(1, after)):
                self.missing[stream] = data[: len(data) - len(live[0])]
                self._met_ns = max(self._met_ns, line.time_ns)
                out.extend(held[:at])
                self._held[stream] = []
                return
        if not final:
            out.extend(held)
            held.clear()


def normal(data: bytes) -> bytes:
    """Line ends as in records: without the carriage return."""
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


def as_kept(data: bytes) -> bytes:
    """As an engine keeps it: in its log each invalid byte has become a replacement character."""
    data = normal(data)
    if data.isascii():
        return data
    text = data.decode("utf-8", "surrogateescape")
    return _INVALID.sub("\ufffd", text).encode()


def _last_line(tail: bytes) -> bytes:
    return tail[tail.rfind(b"\n", 0, -1) + 1 :] if tail else b""
