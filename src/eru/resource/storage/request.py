"""What one workload asks of storage, checked and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from eru.model.errors import InvalidInput
from eru.resource.contract import Bag, Grant
from eru.resource.storage.volumes import NO_RATES, Rates, Volume, parse_volume
from eru.resource.units import BYTES_MAX, given, parse_size, parse_texts

VOLUMES_MAX = 64  # of one workload

_LIMIT_KEYS = ("volumes", "volume", "volume-limit", "volumes-limit")
_REQUEST_KEYS = ("volumes-request", "volume-request")


@dataclass(frozen=True, slots=True)
class StorageRequest:
    """`storage_*` in bytes, the volumes' sizes included; `requests` and `limits` pair up."""

    storage_request: int = 0
    storage_limit: int = 0
    requests: tuple[Volume, ...] = ()
    limits: tuple[Volume, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether no node can be short of anything for this."""
        return not self.storage_request and not self.placed

    @property
    def placed(self) -> tuple[Volume, ...]:
        """Volumes that must be found a place, or whose rates must be free."""
        return tuple(volume for volume in self.requests if volume.scheduled or volume.rates != NO_RATES)


def parse_request(bag: Bag | None) -> StorageRequest:
    """A deploy's or capacity question's bag; numbers and texts with units are both read."""
    bag = bag or {}
    both = _size(bag, "storage")
    request, limit = _size(bag, "storage-request", both), _size(bag, "storage-limit", both)
    limits = _volumes(bag, _LIMIT_KEYS)
    requests = _volumes(bag, _REQUEST_KEYS) or limits
    requests, limits = _paired(requests, limits or requests)
    return _with_volumes(request, limit, requests, limits)


def parse_change(old: Grant, delta: Bag) -> StorageRequest:
    """The request that `old` becomes with every number of `delta` added; new volumes are added, emptied ones go."""
    both = _size(delta, "storage", low=-BYTES_MAX)
    more_request = _size(delta, "storage-request", both, low=-BYTES_MAX)
    more_limit = _size(delta, "storage-limit", both, low=-BYTES_MAX)
    limit_changes = _volumes(delta, _LIMIT_KEYS, low=-BYTES_MAX)
    request_changes = _volumes(delta, _REQUEST_KEYS, low=-BYTES_MAX) or limit_changes
    old_requests, old_limits = volumes_of(old, "volumes_request"), volumes_of(old, "volumes_limit")
    requests = _merged(old_requests, request_changes)
    limits = _merged(old_limits, limit_changes or request_changes)
    requests, limits = _paired(requests, limits)
    request = int(old.get("storage_request") or 0) - _sized(old_requests) + more_request
    limit = int(old.get("storage_limit") or 0) - _sized(old_limits) + more_limit
    for name, value in (("storage-request", request), ("storage-limit", limit)):
        if value < 0:
            raise InvalidInput(f"{name} would become {value} bytes beside the volumes, expected 0 or more")
    return _with_volumes(request, limit, requests, limits)


def volumes_of(grant: Grant, key: str) -> tuple[Volume, ...]:
    """The volumes recorded in a grant."""
    return tuple(parse_volume(key, text) for text in grant.get(key) or [])


def _with_volumes(request: int, limit: int, requests: tuple[Volume, ...], limits: tuple[Volume, ...]) -> StorageRequest:
    """A limit alone is also the request, no limit is below its request; then the volumes come on top."""
    request, limit = request or limit, max(limit, request) if limit else 0
    return StorageRequest(request + _sized(requests), limit + _sized(limits), requests, limits)


def _paired(requests: Sequence[Volume], limits: Sequence[Volume]) -> tuple[tuple[Volume, ...], tuple[Volume, ...]]:
    """Requests and limits side by side; no limit is below its request."""
    if len(requests) != len(limits):
        raise InvalidInput(f"volumes: {len(requests)} requests and {len(limits)} limits, expected as many of each")
    if len(requests) > VOLUMES_MAX:
        raise InvalidInput(f"volumes: {len(requests)} volumes, expected at most {VOLUMES_MAX}")
    targets = set()
    raised = []
    for request, limit in zip(requests, limits, strict=True):
        if request.key != limit.key:
            raise InvalidInput(
                f"volumes-request {request.text!r} and volumes-limit {limit.text!r} differ in source, target or flags"
            )
        if request.target in targets:
            raise InvalidInput(f"volumes: two volumes are mounted at {request.target!r}")
        targets.add(request.target)
        rates = Rates(*(max(a, b) for a, b in zip(request.rates.numbers, limit.rates.numbers, strict=True)))
        raised.append(replace(limit, size=max(limit.size, request.size), rates=rates))
    return tuple(requests), tuple(raised)


def _merged(old: Sequence[Volume], changes: Sequence[Volume]) -> tuple[Volume, ...]:
    by_key = {volume.key: volume for volume in old}
    changed = set()
    for change in changes:
        before = by_key.get(change.key)
        if before is None:
            by_key[change.key] = change
            after = change
        else:
            changed.add(change.key)
            after = replace(before, size=before.size + change.size, rates=before.rates + change.rates)
            by_key[change.key] = after
        if after.size < 0 or min(after.rates.numbers) < 0:
            raise InvalidInput(f"volume {change.text!r} would make a number of {change.target!r} negative")
    return tuple(
        volume
        for key, volume in by_key.items()
        if not (key in changed and not volume.size and volume.rates == NO_RATES)
    )


def _sized(volumes: Sequence[Volume]) -> int:
    return sum(volume.size for volume in volumes)


def _volumes(bag: Bag, keys: Sequence[str], *, low: int = 0) -> tuple[Volume, ...]:
    """Of the first key that says something."""
    for key in keys:
        if texts := parse_texts(key, bag.get(key)):
            return tuple(parse_volume(f"{key}[{i}]", text, low=low) for i, text in enumerate(texts))
    return ()


def _size(bag: Bag, key: str, default: int = 0, *, low: int = 0) -> int:
    value: Any = bag.get(key)
    return parse_size(key, value, low=low) if given(value) else default
