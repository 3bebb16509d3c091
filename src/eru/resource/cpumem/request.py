"""What one workload asks of CPU and memory, checked and normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eru.model.errors import InvalidInput
from eru.resource.contract import Bag, Grant
from eru.resource.units import BYTES_MAX, given, parse_cores, parse_flag, parse_size


@dataclass(frozen=True, slots=True)
class CpumemRequest:
    """Cores as floats, memory in bytes. A limit of 0 is no limit; a request of 0 reserves nothing."""

    cpu_request: float = 0.0
    cpu_limit: float = 0.0
    memory_request: int = 0
    memory_limit: int = 0
    bind: bool = False


def parse_request(bag: Bag | None, sharebase: int) -> CpumemRequest:
    """A deploy's or capacity question's bag; keys it does not know are left to others.

    Raises InvalidInput for what is not a number, negative, or bound without a whole piece.
    """
    bag = bag or {}
    return normalise(
        CpumemRequest(
            cpu_request=_cores(bag, "cpu-request"),
            cpu_limit=_cores(bag, "cpu-limit"),
            memory_request=_bytes(bag, "memory-request"),
            memory_limit=_bytes(bag, "memory-limit"),
            bind=parse_flag("cpu-bind", bag.get("cpu-bind")),
        ),
        sharebase,
    )


def parse_change(old: Grant, delta: Bag, sharebase: int) -> CpumemRequest:
    """The request that `old` becomes when every number in `delta` is added to it.

    Bound when the delta says `cpu-bind`, or `keep-cpu-bind` and it was bound before.
    """
    bind = parse_flag("cpu-bind", delta.get("cpu-bind"))
    keep = parse_flag("keep-cpu-bind", delta.get("keep-cpu-bind"))
    return normalise(
        CpumemRequest(
            cpu_request=round(float(old.get("cpu_request") or 0) + _cores(delta, "cpu-request"), 9),
            cpu_limit=round(float(old.get("cpu_limit") or 0) + _cores(delta, "cpu-limit"), 9),
            memory_request=int(old.get("memory_request") or 0) + _bytes(delta, "memory-request"),
            memory_limit=int(old.get("memory_limit") or 0) + _bytes(delta, "memory-limit"),
            bind=bind or (keep and bool(old.get("cpu_map"))),
        ),
        sharebase,
    )


def normalise(asked: CpumemRequest, sharebase: int) -> CpumemRequest:
    """Fill in and order requests and limits: a limit alone is also the request, and no limit is below its request."""
    _not_negative("memory-request", asked.memory_request, "memory")
    _not_negative("memory-limit", asked.memory_limit, "memory")
    _not_negative("cpu-request", asked.cpu_request, "cpu")
    _not_negative("cpu-limit", asked.cpu_limit, "cpu")
    cpu_request = asked.cpu_request or asked.cpu_limit
    cpu_limit = max(asked.cpu_limit, cpu_request) if asked.cpu_limit else 0.0
    if asked.bind:
        if not cpu_request:
            raise InvalidInput("cpu-request is 0 with cpu-bind: unlimited request with bind: invalid cpu")
        cpu_request = max(cpu_request, cpu_limit)  # a limit that is not given stays 0, as clients read it
        if cpu_request * sharebase < 1 - 1e-9:
            raise InvalidInput(
                f"cpu-request {cpu_request:g} with cpu-bind is less than one piece, "
                f"expected at least {1 / sharebase:g} cores: invalid cpu"
            )
    memory_request = asked.memory_request or asked.memory_limit
    memory_limit = max(asked.memory_limit, memory_request) if asked.memory_limit else 0
    return CpumemRequest(cpu_request, cpu_limit, memory_request, memory_limit, asked.bind)


def pieces_of(cores: float, sharebase: int) -> int:
    """Cores in pieces, to the nearest piece: the one place where cores become pieces (0.29 -> 29, 2.3 -> 230)."""
    return max(1, int(cores * sharebase + 0.5 + 1e-9))


def _cores(bag: Bag, key: str) -> float:
    value: Any = bag.get(key)
    return parse_cores(key, value) if given(value) else 0.0


def _bytes(bag: Bag, key: str) -> int:
    value: Any = bag.get(key)
    return parse_size(key, value, low=-BYTES_MAX) if given(value) else 0


def _not_negative(field: str, value: float, what: str) -> None:
    if value < 0:
        raise InvalidInput(f"{field} {value:g}: limit or request less than 0: invalid {what}")
