"""Resource requests as core reads them: one JSON object per resource kind.

Keys are hyphenated here (`cpu-request`), while core reports with underscores.
Sizes of workloads go as whole bytes, sizes of nodes as they were typed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eru.cli.exits import usage
from eru.cli.parse import json_object, positive_size, size

RESERVED = ("cpumem", "storage")


def encoded(bags: dict[str, Any]) -> dict[str, bytes]:
    """For the message."""
    return {kind: json.dumps(bag, separators=(",", ":")).encode() for kind, bag in bags.items()}


def with_extra(bags: dict[str, Any], extra: str) -> dict[str, Any]:
    """Add the kinds of `--extra-resources`; the two that have options of their own cannot be given there."""
    for kind, bag in json_object("--extra-resources", extra).items():
        if kind in RESERVED:
            raise usage(f"--extra-resources names {kind!r}, which has options of its own")
        bags[kind] = bag
    return bags


@dataclass
class Wanted:
    """What the resource options of deploy, lambda, capacity and realloc say; None where not given."""

    cpu: float | None = None
    cpu_request: float | None = None
    cpu_limit: float | None = None
    memory: str | None = None
    memory_request: str | None = None
    memory_limit: str | None = None
    storage: str | None = None
    storage_request: str | None = None
    storage_limit: str | None = None
    cpu_bind: bool = False


def workload(
    wanted: Wanted,
    *,
    volumes_request: Sequence[str] | None,
    volumes_limit: Sequence[str] | None,
    extra: str = "",
    delta: bool = False,
) -> dict[str, Any]:
    """The bags of one workload; `delta`: numbers are changes and may be negative."""
    cpu_request, cpu_limit = _pair(
        wanted.cpu, _cpu("--cpu-request", wanted.cpu_request, delta), _cpu("--cpu-limit", wanted.cpu_limit, delta)
    )
    if wanted.cpu is not None:
        _cpu("--cpu", wanted.cpu, delta)
    memory_request, memory_limit = _sizes("memory", wanted.memory, wanted.memory_request, wanted.memory_limit, delta)
    storage_request, storage_limit = _sizes(
        "storage", wanted.storage, wanted.storage_request, wanted.storage_limit, delta
    )
    cpumem: dict[str, Any] = {
        "cpu-request": _number(cpu_request),
        "cpu-limit": _number(cpu_limit),
        "memory-request": memory_request,
        "memory-limit": memory_limit,
    }
    if wanted.cpu_bind:
        cpumem["cpu-bind"] = True
    storage = {
        "storage-request": storage_request,
        "storage-limit": storage_limit,
        "volumes-request": list(volumes_request) if volumes_request else None,
        "volumes-limit": list(volumes_limit) if volumes_limit else None,
    }
    return with_extra({"cpumem": cpumem, "storage": storage}, extra)


def _pair(both: float | None, request: float, limit: float) -> tuple[float, float]:
    return (both, both) if both is not None else (request, limit)


def _cpu(option: str, number: float | None, delta: bool) -> float:
    value = number or 0.0
    if not math.isfinite(value):
        raise usage(f"{option} {value} is not a number of cores")
    if value < 0 and not delta:
        raise usage(f"{option} {value:g} is below zero", hint="give a number of cores, for example 0.5")
    return value


def _sizes(what: str, both: str | None, request: str | None, limit: str | None, delta: bool) -> tuple[int, int]:
    read = size if delta else positive_size
    if both is not None:  # an empty one is no limit, as published
        number = read(f"--{what}", both)
        return number, number
    return read(f"--{what}-request", request or ""), read(f"--{what}-limit", limit or "")


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


# -- nodes


def node_bags(values: dict[str, Any]) -> dict[str, Any]:
    """The bags of `node add` and `node set`: only options that were given appear."""
    cpumem: dict[str, Any] = {}
    storage: dict[str, Any] = {}
    for option, bag, key in (
        ("cpu", cpumem, "cpu"),
        ("share", cpumem, "share"),
        ("memory", cpumem, "memory"),
        ("numa_cpu", cpumem, "numa-cpu"),
        ("numa_memory", cpumem, "numa-memory"),
        ("storage", storage, "storage"),
        ("volume", storage, "volumes"),
        ("disk", storage, "disks"),
        ("rm_disk", storage, "rm-disks"),
    ):
        value = values.get(option)
        if value in (None, "", ()):
            continue
        bag[key] = list(value) if isinstance(value, tuple) else str(value) if option == "share" else value
    for option in ("memory", "storage"):
        if values.get(option):
            size(f"--{option}", values[option])
    return with_extra({"cpumem": cpumem, "storage": storage}, values.get("extra_resources") or "")
