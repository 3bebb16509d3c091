"""The resource kinds a core works with."""

from __future__ import annotations

from dataclasses import dataclass

from eru.resource.contract import Kind
from eru.resource.cpumem import CpumemKind
from eru.resource.gpu import GpuKind
from eru.resource.storage import StorageKind


@dataclass(frozen=True, slots=True)
class ResourceSettings:
    """`sharebase`, `maxshare`: as in the scheduler's configuration.

    `memory_part`, `storage_part`: of what a node's engine reports, when the request does not say.
    """

    sharebase: int = 100
    maxshare: int = -1
    memory_part: float = 0.8
    storage_part: float = 0.8


def builtin_kinds(settings: ResourceSettings | None = None) -> dict[str, Kind]:
    """Name -> kind, in the order in which they are asked."""
    settings = settings or ResourceSettings()
    kinds: list[Kind] = [
        CpumemKind(settings.sharebase, settings.maxshare, settings.memory_part),
        StorageKind(settings.storage_part),
        GpuKind(),
    ]
    return {kind.name: kind for kind in kinds}
