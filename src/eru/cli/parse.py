"""Values on the command line: sizes, pairs, JSON objects. Everything wrong is refused with the value and the form."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from eru.cli.exits import usage
from eru.cli.suggest import did_you_mean

_SIZE = re.compile(r"\s*(-?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?:([kmgtp])i?)?b?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
BYTES_MAX = 2**63 - 1


def size(option: str, text: str) -> int:
    """Bytes of `512M`, `1.5GiB`, `-1g`, `1024`; binary multiples. "" is 0."""
    if not text:
        return 0
    match = _SIZE.fullmatch(text)
    if match is None:
        raise usage(
            f"{option} {text!r} is not a size", hint="use a number with K, M, G, T or P, for example 512M or 1.5G"
        )
    sign, digits, unit = match.groups()
    number = float(digits) if "." in digits else int(digits)
    total = int(number * 1024 ** _POWERS[(unit or "").lower()])
    if total > BYTES_MAX:
        raise usage(f"{option} {text!r} is more than {BYTES_MAX} bytes")
    return -total if sign else total


def positive_size(option: str, text: str) -> int:
    """As `size`, but not below zero."""
    total = size(option, text)
    if total < 0:
        raise usage(f"{option} {text!r} is below zero", hint="give how much the workload may use, for example 512M")
    return total


def pairs(option: str, items: Sequence[str]) -> dict[str, str]:
    """`key=value` items as a dict; the value may contain `=`."""
    made: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise usage(f"{option} {item!r} is not of the form key=value")
        made[key] = value
    return made


def json_object(option: str, text: str) -> dict[str, Any]:
    """A JSON object; "" is an empty one."""
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise usage(
            f"{option} is not JSON: {error}", hint=f"""for example {option} '{{"gpu": {{"count": 1}}}}'"""
        ) from None
    if not isinstance(value, dict):
        raise usage(f"{option} is JSON, but not an object: {text[:60]}")
    return value


def choice(option: str, text: str, known: Sequence[str]) -> str:
    """One of `known`, whatever its case."""
    for each in known:
        if each.lower() == text.lower():
            return each
    hint = did_you_mean(text, known) or f"one of {', '.join(known)}"
    raise usage(f"{option} {text!r} is not known", why=f"known are {', '.join(known)}", hint=hint)


def seconds(option: str, text: str) -> float:
    """`90`, `90s`, `5m`, `1h30m` as seconds."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not text.strip() or match is None:
        raise usage(f"{option} {text!r} is not a time", hint="use seconds, or for example 90s, 5m, 1h30m")
    hours, minutes, rest = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest or 0)
