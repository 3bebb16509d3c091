"""Reads numbers out of request bags: sizes, cores, counts, flags, lists.

Every value may come as a JSON number or as text, because published clients
send both. What cannot be read raises InvalidInput with the field, the value
and what was expected; nothing is guessed.
"""

from __future__ import annotations

import math
import re
from typing import Any

from eru.model.errors import InvalidInput

BYTES_MAX = 1 << 60  # 1 EiB, for one node as for one workload
CORES_MAX = 1_000_000.0  # cores one workload may ask for
COUNT_MAX = 1 << 40  # instances, devices, operations per second

_SIZE = re.compile(r"\s*(?P<sign>[+-]?)(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[bkmgtpe]?)(?:i?b)?\s*", re.IGNORECASE)
_POWER = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"", "false", "0", "no", "off"})
_VALUE_SHOWN = 64  # characters of a wrong value repeated in a message


def shown(value: Any) -> str:
    """A wrong value, short enough for a message."""
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python prints
        return f"a {type(value).__name__} with too many digits"
    return text if len(text) <= _VALUE_SHOWN else f"{text[:_VALUE_SHOWN]}..."


def parse_size(field: str, value: Any, *, low: int = 0, most: int = BYTES_MAX) -> int:
    """Bytes from a number or a text such as `512M` (binary multiples b k m g t p, optional `b` or `ib`)."""
    expected = "bytes as a whole number or a text like 512M"
    if isinstance(value, str):
        found = _SIZE.fullmatch(value) if len(value) <= _VALUE_SHOWN else None
        if found is None:
            raise InvalidInput(f"{field} {shown(value)} is not a size, expected {expected}")
        number, factor = found["number"], 1024 ** _POWER[found["unit"].lower()]
        size = int(number) * factor if number.isdigit() else round(float(number) * factor)
        if found["sign"] == "-":
            size = -size
    else:
        size = _whole(field, value, expected)
    return _in_range(field, value, size, low, most)


def parse_whole(field: str, value: Any, *, low: int = 0, most: int = COUNT_MAX) -> int:
    """A whole number, given as a number or its decimal text."""
    expected = "a whole number"
    if isinstance(value, str):
        try:
            if len(value) > _VALUE_SHOWN:
                raise ValueError
            number = int(value)
        except ValueError:
            raise InvalidInput(f"{field} {shown(value)} is not a number, expected {expected}") from None
    else:
        number = _whole(field, value, expected)
    return _in_range(field, value, number, low, most)


def parse_cores(field: str, value: Any, *, most: float = CORES_MAX) -> float:
    """CPU cores as a finite number, rounded to a billionth of a core; may be negative (a change)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidInput(f"{field} {shown(value)} is not a number of cores, expected for example 0.5")
    try:
        if isinstance(value, str) and len(value) > _VALUE_SHOWN:
            raise ValueError
        cores = float(value)
    except (ValueError, OverflowError):
        raise InvalidInput(f"{field} {shown(value)} is not a number of cores, expected for example 0.5") from None
    if not math.isfinite(cores) or abs(cores) > most:
        raise InvalidInput(f"{field} {shown(value)} is out of range, expected at most {most:g} cores")
    return round(cores, 9) + 0.0


def parse_flag(field: str, value: Any) -> bool:
    """True or false, also as text or as 0 and 1; absent (None) is false."""
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    text = str(value).lower() if isinstance(value, int | str) else None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise InvalidInput(f"{field} {shown(value)} is not a flag, expected true or false")


def parse_texts(field: str, value: Any) -> list[str]:
    """A list of texts; absent (None) is empty, and one text alone is a list of itself."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value] if value else []
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise InvalidInput(f"{field} {shown(value)} is not a list of texts")
    return list(value)


def given(value: Any) -> bool:
    """Whether a bag really says something for a key: neither null nor the empty text."""
    return value is not None and value != ""


def size_text(size: float) -> str:
    """Bytes for people: `40M`, `1.5G`, `1023`."""
    left = float(size)
    for unit in ("", "K", "M", "G", "T", "P"):
        if abs(left) < 1024 or unit == "P":
            return f"{left:.1f}".rstrip("0").rstrip(".") + unit
        left /= 1024
    return f"{left:g}"  # unreachable: the loop ends at P


def _whole(field: str, value: Any, expected: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{field} {shown(value)} is not a number, expected {expected}")
    if isinstance(value, int):
        return value
    if not math.isfinite(value):
        raise InvalidInput(f"{field} {shown(value)} is not a number, expected {expected}")
    return round(value)


def _in_range(field: str, value: Any, number: int, low: int, most: int) -> int:
    if number < low:
        raise InvalidInput(f"{field} {shown(value)} is too small, expected at least {low}")
    if number > most or number < -most:
        raise InvalidInput(f"{field} {shown(value)} is out of range, expected at most {most}")
    return number
