"""The resource kinds a core works with."""

from __future__ import annotations

from dataclasses import dataclass

from eru.resource.contract import Kind
from eru.resource.cpumem import CpumemKind


@dataclass(frozen=True, slots=True)
class ResourceSettings:
    """`sharebase`, `maxshare`: as in the scheduler's configuration. `memory_part`: of a node's detected memory."""

    sharebase: int = 100
    maxshare: int = -1
    memory_part: float = 0.8


def builtin_kinds(settings: ResourceSettings | None = None) -> dict[str, Kind]:
    """Name -> kind, in the order in which they are asked."""
    settings = settings or ResourceSettings()
    kinds: list[Kind] = [CpumemKind(settings.sharebase, settings.maxshare, settings.memory_part)]
    return {kind.name: kind for kind in kinds}
