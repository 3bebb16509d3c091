"""Moments and durations as people read and write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from eru.cli.exits import usage
from eru.cli.parse import seconds

NS = 1_000_000_000
_STEPS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
_FINE_UNTIL = 10  # 9m12s, but 12m


def duration(span_s: float) -> str:
    """`0s`, `12s`, `3m5s`, `45m`, `2h10m`, `31h` is `1d7h`, `20d`; below zero is `0s`."""
    left = max(int(span_s), 0)
    for big, name, small, small_name in _STEPS:
        if left >= big:
            count, rest = divmod(left, big)
            fine = rest // small
            return f"{count}{name}{fine}{small_name}" if fine and count < _FINE_UNTIL else f"{count}{name}"
    return f"{left}s"


def ago(time_ns: int, now_ns: int) -> str:
    """`12s ago`; `never` for no time at all."""
    return f"{duration((now_ns - time_ns) / NS)} ago" if time_ns > 0 else "never"


def clock_time(time_ns: int) -> str:
    """`14:03:12`, here."""
    return datetime.fromtimestamp(time_ns / NS).strftime("%H:%M:%S")


def utc(time_ns: int) -> str:
    """`2026-11-21T14:03:12Z`."""
    return datetime.fromtimestamp(time_ns // NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_fine(time_ns: int) -> str:
    """`2026-11-21T14:03:12.345Z`."""
    return f"{utc(time_ns)[:-1]}.{time_ns % NS // 1_000_000:03}Z"


def since_ns(option: str, text: str, now_ns: int) -> int:
    """The moment meant by `10m` (back from now) or `2026-11-21T12:00:00Z`; 0 for "". Raises Problem."""
    if not text:
        return 0
    if re.match(r"\d{4}-\d\d-\d\d", text):
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise usage(f"{option} {text!r} is not a time", hint="use 10m, or 2026-11-21T12:00:00Z") from None
        return int((at if at.tzinfo else at.astimezone()).timestamp() * NS)
    return now_ns - int(seconds(option, text) * NS)
