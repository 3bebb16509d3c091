"""What this core says of itself."""

from __future__ import annotations

import platform

import msgspec

from eru import __version__
from eru.core.app import Core


class CoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`identifier` is the cluster's, the same on all its cores and after every restart."""

    version: str
    revision: str
    build_at: str
    runtime: str
    os_arch: str
    identifier: str


def core_info(core: Core) -> CoreInfo:
    """Never fails."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return CoreInfo(
        version=core.settings.version or __version__,
        revision="",
        build_at="",
        runtime=f"python{platform.python_version()}",
        os_arch=f"{platform.system().lower()}/{machine}",
        identifier=core.settings.identifier,
    )
