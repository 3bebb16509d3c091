"""Where the file of contexts is."""

from __future__ import annotations

import os
from pathlib import Path


def place() -> Path:
    """ERU_CONFIG, else `eru/config.yaml` in XDG_CONFIG_HOME or ~/.config; it need not be there."""
    if given := os.environ.get("ERU_CONFIG"):
        return Path(os.path.expanduser(given))
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(os.path.expanduser(base)) / "eru" / "config.yaml"  # as it is for a user without a home


def changed_ns(path: Path) -> int:
    """When a file was changed; 0 for one that is not there, or not for us to see."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
