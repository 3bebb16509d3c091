"""The resource kinds a core works with."""

from __future__ import annotations

from dataclasses import dataclass

from eru.model.errors import InvalidInput
from eru.resource.contract import Kind
from eru.resource.cpumem import CpumemKind
from eru.resource.external import ExternalKind, find_programs
from eru.resource.gpu import GpuKind
from eru.resource.storage import StorageKind


@dataclass(frozen=True, slots=True)
class ResourceSettings:
    """`sharebase`, `maxshare`: as in the scheduler's configuration.

    `memory_part`, `storage_part`: of what a node's engine reports, when the request does not say.
    `plugin_dir`: external programs ("": none), each call bounded by `plugin_timeout_s`; `plugins_wanted`: only
    these of them (empty: all).
    """

    sharebase: int = 100
    maxshare: int = -1
    memory_part: float = 0.8
    storage_part: float = 0.8
    plugin_dir: str = ""
    plugin_timeout_s: float = 30.0
    plugins_wanted: frozenset[str] = frozenset()


def builtin_kinds(settings: ResourceSettings | None = None) -> dict[str, Kind]:
    """Name -> kind, in the order in which they are asked; a program with the name of a built-in kind is left out.

    Raises InvalidInput when the plugin directory cannot be read, or when a wanted program is nowhere.
    """
    settings = settings or ResourceSettings()
    kinds: list[Kind] = [
        CpumemKind(settings.sharebase, settings.maxshare, settings.memory_part),
        StorageKind(settings.storage_part),
        GpuKind(),
    ]
    found = {kind.name: kind for kind in kinds}
    if settings.plugin_dir:
        programs = find_programs(settings.plugin_dir, settings.plugin_timeout_s)
        wanted = settings.plugins_wanted
        if missing := wanted - found.keys() - {program.name for program in programs}:
            raise InvalidInput(
                f"resource_plugin.whitelist: {', '.join(sorted(missing))} is wanted, but {settings.plugin_dir} "
                "has no program of that name"
            )
        for program in programs:
            if not wanted or program.name in wanted:
                found.setdefault(program.name, ExternalKind(program))
    return found
