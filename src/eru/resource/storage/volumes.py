"""One volume of a workload in its text form: `src:dst[:flags[:size[:riops:wiops:rbps:wbps]]]`.

A source that is empty or ends in `AUTO` is scheduled: Eru chooses one of the
node's volumes. With flag `m` the chosen volume belongs to the workload alone
(monopoly). A scheduled volume without any number is unlimited. Every other
source is a path of the node that is mounted as it is; only its operations
and bytes per second count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from eru.model.errors import InvalidInput
from eru.resource.units import BYTES_MAX, parse_size, shown

PARTS_MAX = 8
TEXT_MAX = 4096  # characters of one volume
_LETTERS = re.compile(r"[rwom]+")
_FLAGS = re.compile(r"[A-Za-z,]*")


@dataclass(frozen=True, slots=True)
class Rates:
    """Operations per second and bytes per second, read and write."""

    read_iops: int = 0
    write_iops: int = 0
    read_bps: int = 0
    write_bps: int = 0

    def __add__(self, other: Rates) -> Rates:
        return Rates(*(a + b for a, b in zip(self.numbers, other.numbers, strict=True)))

    def __sub__(self, other: Rates) -> Rates:
        return Rates(*(a - b for a, b in zip(self.numbers, other.numbers, strict=True)))

    def within(self, other: Rates) -> bool:
        """Whether every number is at most the other's."""
        return all(a <= b for a, b in zip(self.numbers, other.numbers, strict=True))

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        return self.read_iops, self.write_iops, self.read_bps, self.write_bps

    @property
    def text(self) -> str:
        return ":".join(map(str, self.numbers))


NO_RATES = Rates()
RATE_NAMES = tuple(field.name for field in fields(Rates))


@dataclass(frozen=True, slots=True)
class Volume:
    """A parsed volume; `flags` has its letters sorted, so that `rw` and `wr` are the same. Sizes in bytes."""

    source: str
    target: str
    flags: str
    size: int = 0
    rates: Rates = NO_RATES

    @property
    def key(self) -> tuple[str, str, str]:
        """What pairs a request with its limit, and an old volume with its change."""
        return self.source, self.target, self.flags

    @property
    def scheduled(self) -> bool:
        return not self.source or self.source.endswith("AUTO")

    @property
    def monopoly(self) -> bool:
        return self.scheduled and "m" in self.flags and bool(_LETTERS.fullmatch(self.flags))

    @property
    def unlimited(self) -> bool:
        return self.scheduled and not self.monopoly and not self.size and self.rates == NO_RATES

    @property
    def text(self) -> str:
        """All eight parts, as they are recorded: read-only is `ro` for people, however its letters are sorted."""
        flags = self.flags
        if "o" in flags and _LETTERS.fullmatch(flags):
            flags = flags.replace("o", "").replace("r", "ro").replace("w", "wo")
        return f"{self.source}:{self.target}:{flags}:{self.size}:{self.rates.text}"

    def mounted(self, source: str) -> str:
        """All eight parts as the engine gets them: a real source, and flags that engines know."""
        flags = self.flags
        if _LETTERS.fullmatch(flags):
            flags = "ro" if "o" in flags and "w" not in flags else "rw"
        return replace(self, source=source, flags=flags).text


def parse_volume(field: str, text: str, *, low: int = 0) -> Volume:
    """Raises InvalidInput naming the field and the text. `low`: least allowed number (negative for changes)."""
    if len(text) > TEXT_MAX or "\0" in text or "\n" in text:
        raise InvalidInput(f"{field} {shown(text)} is not a volume: too long, or with a line break")
    parts = [part.strip() for part in text.split(":")]
    if not 2 <= len(parts) <= PARTS_MAX or not parts[1].startswith("/"):
        raise InvalidInput(
            f"{field} {shown(text)} is not a volume, expected src:dst[:flags[:size[:riops:wiops:rbps:wbps]]] "
            f"with an absolute dst"
        )
    parts += [""] * (PARTS_MAX - len(parts))
    flags = parts[2] or "rw"
    if not _FLAGS.fullmatch(flags):
        raise InvalidInput(f"{field} {shown(text)} has flags {shown(flags)}, expected letters such as rw, ro or mrw")
    if _LETTERS.fullmatch(flags):
        flags = "".join(sorted(set(flags)))
    numbers = [
        parse_size(f"{field} {shown(text)}: {name}", part, low=low, most=BYTES_MAX) if part else 0
        for name, part in zip(("size", *RATE_NAMES), parts[3:], strict=True)
    ]
    return Volume(parts[0], parts[1], flags, numbers[0], Rates(*numbers[1:]))
