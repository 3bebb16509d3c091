"""Arithmetic on whole usage records: every kind does its own part. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eru.model.nodes import Resources
from eru.resource.contract import Allotment, Kind

Kinds = Mapping[str, Kind]
Requests = Mapping[str, Any]  # kind name -> what its `parse_request` made


def parse_requests(kinds: Kinds, bags: Resources) -> dict[str, Any]:
    """Checked requests of all kinds; unknown names in `bags` are ignored. Raises InvalidInput."""
    return {name: kind.parse_request(bags.get(name)) for name, kind in kinds.items()}


def allot(
    kinds: Kinds, capacity: Resources, usage: Resources, requests: Requests, count: int
) -> tuple[list[tuple[Resources, Resources]], Resources]:
    """(grant, engine parameters) of `count` instances on one node, and the usage with them.

    Raises NoCapacity when they do not all fit.
    """
    shares: list[tuple[Resources, Resources]] = [({}, {}) for _ in range(count)]
    after = dict(usage)
    for name, kind in kinds.items():
        used = usage.get(name, {})
        allotments: Sequence[Allotment] = kind.allot(capacity.get(name, {}), used, requests[name], count)
        for (grant, params), allotment in zip(shares, allotments, strict=True):
            grant[name] = allotment.grant
            params[name] = allotment.engine_params
        after[name] = kind.add(used, [allotment.grant for allotment in allotments])
    return shares, after


def add(kinds: Kinds, usage: Resources, grants: Sequence[Resources]) -> Resources:
    """The usage with `grants` on top."""
    after = dict(usage)
    for name, kind in kinds.items():
        if parts := [grant[name] for grant in grants if name in grant]:
            after[name] = kind.add(usage.get(name, {}), parts)
    return after


def subtract(kinds: Kinds, usage: Resources, grants: Sequence[Resources]) -> Resources:
    """The usage without `grants`."""
    after = dict(usage)
    for name, kind in kinds.items():
        if parts := [grant[name] for grant in grants if name in grant]:
            after[name] = kind.subtract(usage.get(name, {}), parts)
    return after


def reallot(
    kinds: Kinds, capacity: Resources, usage: Resources, old: Resources, deltas: Resources
) -> tuple[Resources, Resources, Resources]:
    """(grant, engine parameters, usage) after a change of one workload. Raises NoCapacity, InvalidInput."""
    grant, params, after = dict(old), {}, dict(usage)
    for name, kind in kinds.items():
        changed = kind.reallot(capacity.get(name, {}), usage.get(name, {}), old.get(name, {}), deltas.get(name, {}))
        grant[name] = changed.allotment.grant
        params[name] = changed.allotment.engine_params
        after[name] = changed.usage
    return grant, params, after


_SOFT = {"cpu"}  # CPU that is not bound to cores is promised more than once


def within(usage: Any, capacity: Any) -> bool:
    """Whether no number in `usage` is above the one at the same place in `capacity`."""
    if isinstance(usage, Mapping) and isinstance(capacity, Mapping):
        return all(
            within(part, capacity[name]) for name, part in usage.items() if name in capacity and name not in _SOFT
        )
    if _number(usage) and _number(capacity):
        return bool(usage <= capacity + 1e-9)
    return True


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
