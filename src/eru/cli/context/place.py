"""Where the file of contexts is."""

from __future__ import annotations

import os
from pathlib import Path


def place() -> Path:
    """ERU_CONFIG, else `eru/config.yaml` in XDG_CONFIG_HOME or ~/.config; it need not be there."""
    if given := os.environ.get("ERU_CONFIG"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "eru" / "config.yaml"
