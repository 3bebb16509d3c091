"""Resource JSON of nodes and workloads as lines, shares and sums.

The keys are whatever the resource kinds of core report; nothing here knows
them, except the four shares (cpu, memory, storage, volume) that a node table
has always shown. Keys are sorted, numbers by value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from eru.cli.exits import usage

DASHES = "-" * 12


def opened(text: str) -> dict[str, dict[str, Any]]:
    """`{"cpumem": {...}}` from the JSON string of a message; {} for "", `null` and anything else."""
    try:
        data = json.loads(text or "null")
    except ValueError:
        return {}
    if not isinstance(data, dict):
        return {}
    return {str(kind): value for kind, value in data.items() if isinstance(value, dict)}


@lru_cache(4096)
def by_number(key: str) -> tuple[Any, ...]:
    """Sort key that puts 2 before 10."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", key) if part)


def lines(values: dict[str, Any], only: dict[str, Any] | None = None, *, skip_null: bool = False) -> list[str]:
    """`key: value`, `key[sub]: value` lines; `only`: keys that may be shown."""
    out: list[str] = []
    for key in sorted(values, key=by_number):
        value = values[key]
        if (only is not None and key not in only) or (skip_null and value is None):
            continue
        if isinstance(value, dict):
            out += [f"{key}[{sub}]: {_text(value[sub])}" for sub in sorted(value, key=by_number)]
        elif isinstance(value, list):
            out += [f"{key}[{index}]: {_text(item)}" for index, item in enumerate(value)]
        else:
            out.append(f"{key}: {_text(value)}")
    return out


def is_nothing(value: Any) -> bool:
    """Whether there is nothing to tell: null, 0, "", and containers of only that."""
    if isinstance(value, dict):
        return all(is_nothing(each) for each in value.values())
    return not value if not isinstance(value, list) else all(is_nothing(each) for each in value)


def node_lines(capacity: dict[str, Any], usage_: dict[str, Any]) -> list[str]:
    """Capacity and usage of one resource kind on a node."""
    return ["Capacity:", *lines(capacity), DASHES, "Usage:", *lines(usage_, capacity, skip_null=True)]


def _text(value: Any) -> str:
    if type(value) is int:
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# -- shares of a node


def shares(capacity_json: str, usage_json: str) -> dict[str, float]:
    """Used part (0..1) of cpu, memory, storage and volume; 0 where a node has none."""
    capacity, used = opened(capacity_json), opened(usage_json)

    def of(kind: str, key: str) -> float:
        return _share(_sum(used.get(kind, {}).get(key)), _sum(capacity.get(kind, {}).get(key)))

    return {
        "cpu": of("cpumem", "cpu"),
        "memory": of("cpumem", "memory"),
        "storage": of("storage", "storage"),
        "volume": of("storage", "volumes"),
    }


def _share(used: float, capacity: float) -> float:
    return used / capacity if capacity else 0.0


def _sum(value: Any) -> float:
    if isinstance(value, dict):
        return sum(_sum(each) for each in value.values())
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


_FILTER = re.compile(r"\s*(cpu|memory|storage|volume)\s*(>=|<=|==|>|<)\s*([0-9]+(?:\.[0-9]+)?)\s*(%?)\s*")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": lambda share, wanted: share > wanted,
    ">=": lambda share, wanted: share >= wanted,
    "<": lambda share, wanted: share < wanted,
    "<=": lambda share, wanted: share <= wanted,
    "==": lambda share, wanted: abs(share - wanted) < 1e-9,
}


class ShareFilter:
    """`cpu >= 50%`: which nodes to show by the share in use. `all` shows every node."""

    def __init__(self, text: str) -> None:
        self._test: tuple[str, Callable[[float, float], bool], float] | None = None
        if text.strip().lower() not in ("", "all"):
            match = _FILTER.fullmatch(text)
            if match is None:
                raise usage(
                    f"--filter {text!r} is not of the form <what> <op> <number>[%]",
                    why="what: cpu, memory, storage, volume; op: > >= < <= ==",
                    hint="for example --filter 'memory >= 80%'",
                )
            what, operator, number, percent = match.groups()
            self._test = (what, _COMPARE[operator], float(number) / (100 if percent else 1))

    def __call__(self, found: dict[str, float]) -> bool:
        if self._test is None:
            return True
        what, compare, wanted = self._test
        return compare(found[what], wanted)


# -- sums over workloads


def totals(resources: list[str]) -> dict[str, float]:
    """CPUs, memory and storage requested by all these workloads."""
    kinds = [opened(text) for text in resources]

    def total(kind: str, key: str) -> float:
        return sum(_sum(each.get(kind, {}).get(key)) for each in kinds)

    return {
        "CPUs": total("cpumem", "cpu_request"),
        "Memory": int(total("cpumem", "memory_request")),
        "Storage": int(total("storage", "storage_request")),
    }
