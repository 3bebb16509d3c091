"""Debian packages: is a command here, and install what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_SBIN = ":/usr/local/sbin:/usr/sbin:/sbin"  # daemons live here, and users often lack it in PATH
LOCK_WAIT_S = 120


class Missing(Exception):
    """Something is not here and could not be put here; says what to type."""


def installed_here(command: str) -> bool:
    """Whether `command` can be run."""
    return where(command) is not None


def where(command: str) -> str | None:
    """The path of a command, looking where daemons live too."""
    return shutil.which(command, path=os.environ.get("PATH", "") + _SBIN)


def static_busybox() -> str | None:
    """The path of a busybox that needs no loader, so that it can be alone in an image."""
    path = where("busybox")
    return path if path is not None and b"/ld-" not in Path(path).read_bytes()[:4096] else None


def install(packages: Sequence[str], why: str) -> None:
    """apt-get install, or `Missing` with what to type."""
    names = " ".join(packages)
    if not installed_here("apt-get"):
        raise Missing(f"{names} not found ({why}); install it with this system's package manager and try again")
    if os.geteuid() != 0:
        raise Missing(f"{names} not found ({why}); type: sudo apt-get install {names}")
    print(f"installing {names} ({why})", flush=True)
    _apt("update", "-qq")  # a dead third-party source is no reason to stop: the install decides
    if _apt("install", "-y", "-qq", "--no-install-recommends", *packages) != 0:
        raise Missing(f"apt-get could not install {names} ({why}); its own words are above")


def _apt(*arguments: str) -> int:
    return subprocess.run(
        ["apt-get", "-o", f"DPkg::Lock::Timeout={LOCK_WAIT_S}", *arguments],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"},
        check=False,
    ).returncode
