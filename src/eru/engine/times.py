"""Points in time as users write them for logs: Unix seconds, RFC 3339, or a duration back from now."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from eru.model.errors import InvalidInput

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNIT_NS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000}
_UNIX = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?")


def point_ns(text: str, now_ns: int) -> int:
    """Nanoseconds since the epoch. Raises InvalidInput for anything else."""
    if (match := _UNIX.fullmatch(text)) is not None:
        return int(match[1]) * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))
    if _DURATION.fullmatch(text):
        return now_ns - sum(int(float(number) * _UNIT_NS[unit]) for number, unit in _PART.findall(text))
    try:
        whole, _, fraction = text.partition(".")
        digits = re.match(r"\d{1,9}", fraction)
        zone = fraction[digits.end() :] if digits else ""
        at = datetime.fromisoformat((whole + zone).replace("Z", "+00:00"))
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return int(at.timestamp()) * 1_000_000_000 + int((digits[0] if digits else "0").ljust(9, "0"))
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{text!r} is no time: use Unix seconds, RFC 3339 (2026-01-31T12:00:00Z) or a duration back from now (10m)"
        ) from None


def unix_text(ns: int) -> str:
    """As Docker's API takes it: seconds with nine decimals."""
    return f"{ns // 1_000_000_000}.{ns % 1_000_000_000:09d}"
