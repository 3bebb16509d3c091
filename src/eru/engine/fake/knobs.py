"""The knobs of a fake engine, read from its endpoint's query.

    cpu=24 memory=64G storage=0     what the machine seems to have
    <verb>_ms=5                     each call of that verb takes so long
    fail_<verb>=0.1                 that part of the calls is refused, nothing done
    lose_<verb>=0.1                 that part is done, and its answer gets lost
    hang=<verb>,<verb>              these never answer: after `hang_s` (30) the outcome is unknown
    exit_after_s=3 exit_code=1      workloads end by themselves
    grace_s=10                      a stop takes so long, and goes on when nobody waits for it any more
    images=a,b                      only these images exist; without it every image does
    down=1                          nothing answers

Verbs are the engine's method names (`create`, `start`, `ping`, ...).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from eru.engine.verbs import COROUTINES, STREAMS
from eru.model.errors import InvalidInput

VERBS = COROUTINES | STREAMS
_SIZE = re.compile(r"(\d+)([KMGT]?)B?", re.IGNORECASE)
_FACTOR = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class Knobs:
    """Sizes in bytes, probabilities 0 to 1, times in seconds."""

    cpu: int = 24
    memory: int = 64 << 30
    storage: int = 0
    delay_s: dict[str, float] = field(default_factory=dict)
    fail: dict[str, float] = field(default_factory=dict)
    lose: dict[str, float] = field(default_factory=dict)
    hang: frozenset[str] = frozenset()
    hang_s: float = 30.0
    exit_after_s: float = 0.0
    exit_code: int = 0
    grace_s: float = 0.0
    images: frozenset[str] = frozenset()
    down: bool = False

    @property
    def quiet(self) -> bool:
        """No knob that any call has to look at."""
        return not (self.delay_s or self.fail or self.lose or self.hang or self.down)


def parse_endpoint(endpoint: str) -> tuple[str, Knobs]:
    """(node key, knobs) of `fake://name?knobs`. Raises InvalidInput for a knob that does not exist."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("fake", "mock"):
        raise InvalidInput(f"endpoint {endpoint!r} is not a fake:// or mock:// endpoint")
    values: dict[str, object] = {"cpu": 100, "memory": 100 << 30} if parts.scheme == "mock" else {}
    tables: dict[str, dict[str, float]] = {"delay_s": {}, "fail": {}, "lose": {}}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        table, verb = _verb_knob(name)
        if verb:
            tables[table][verb] = _number(name, text) / (1000 if table == "delay_s" else 1)
        elif (read := _PLAIN.get(name)) is not None:
            values[name] = read(name, text)
        else:
            raise InvalidInput(
                f"endpoint {endpoint!r}: knob {name!r} does not exist, expected one of "
                f"{', '.join(sorted(_PLAIN))}, <verb>_ms, fail_<verb>, lose_<verb>"
            )
    return parts.netloc + parts.path.rstrip("/"), Knobs(**tables, **values)  # type: ignore[arg-type]


def _verb_knob(name: str) -> tuple[str, str]:
    for table, verb in (
        ("delay_s", name.removesuffix("_ms") if name.endswith("_ms") else ""),
        ("fail", name.removeprefix("fail_") if name.startswith("fail_") else ""),
        ("lose", name.removeprefix("lose_") if name.startswith("lose_") else ""),
    ):
        if verb in VERBS:
            return table, verb
    return "", ""


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e15:
        raise InvalidInput(f"fake engine knob {name}={text!r} must be a number that is not negative")
    return value


def _whole(name: str, text: str) -> int:
    return int(_number(name, text))


def _size(name: str, text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"fake engine knob {name}={text!r} must be a size like 512M or 64G")
    return int(match[1]) * _FACTOR[match[2].upper()]


def _verbs(name: str, text: str) -> frozenset[str]:
    verbs = frozenset(part for part in text.split(",") if part)
    if unknown := verbs - VERBS:
        raise InvalidInput(f"fake engine knob {name}={text!r}: {', '.join(sorted(unknown))} is no verb of an engine")
    return verbs


def _names(name: str, text: str) -> frozenset[str]:
    return frozenset(part for part in text.split(",") if part)


def _yes(name: str, text: str) -> bool:
    return _number(name, text or "1") > 0


_PLAIN: dict[str, Callable[[str, str], object]] = {
    "cpu": _whole,
    "memory": _size,
    "storage": _size,
    "hang": _verbs,
    "hang_s": _number,
    "exit_after_s": _number,
    "exit_code": _whole,
    "grace_s": _number,
    "images": _names,
    "down": _yes,
}
