"""The resource kinds a core works with."""

from __future__ import annotations

from dataclasses import dataclass

from eru.resource.contract import Kind
from eru.resource.cpumem import CpumemKind
from eru.resource.external import ExternalKind, find_programs
from eru.resource.gpu import GpuKind
from eru.resource.storage import StorageKind


@dataclass(frozen=True, slots=True)
class ResourceSettings:
    """`sharebase`, `maxshare`: as in the scheduler's configuration.

    `memory_part`, `storage_part`: of what a node's engine reports, when the request does not say.
    `plugin_dir`: external programs ("": none), each call bounded by `plugin_timeout_s`.
    """

    sharebase: int = 100
    maxshare: int = -1
    memory_part: float = 0.8
    storage_part: float = 0.8
    plugin_dir: str = ""
    plugin_timeout_s: float = 30.0


def builtin_kinds(settings: ResourceSettings | None = None) -> dict[str, Kind]:
    """Name -> kind, in the order in which they are asked; a program with the name of a built-in kind is left out.

    Raises InvalidInput when the plugin directory cannot be read.
    """
    settings = settings or ResourceSettings()
    kinds: list[Kind] = [
        CpumemKind(settings.sharebase, settings.maxshare, settings.memory_part),
        StorageKind(settings.storage_part),
        GpuKind(),
    ]
    found = {kind.name: kind for kind in kinds}
    if settings.plugin_dir:
        for program in find_programs(settings.plugin_dir, settings.plugin_timeout_s):
            found.setdefault(program.name, ExternalKind(program))
    return found
