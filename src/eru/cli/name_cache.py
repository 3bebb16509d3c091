"""Names that core told lately, so that a shell has an answer to TAB at once.

One small file per cluster and kind, in `eru` of XDG_CACHE_HOME or ~/.cache, for
its owner only. What is fresh is used as it is; what is older is used too, and
renewed behind the user's back.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FRESH_S = 5.0  # as good as asking
STALE_S = 3600.0  # better than nothing
REFRESH = "ERU_COMPLETE_REFRESH"  # set for the process that renews: it asks core, and nobody waits for it
_PROGRAMS = ("eru", "eru-cli", "__main__.py")


def place(kind: str, about: Sequence[str]) -> Path:
    """The file for one kind of names; `about` tells one cluster from another."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    digest = hashlib.sha256("\0".join(about).encode()).hexdigest()[:16]
    return base / "eru" / f"names-{kind}-{digest}.json"


def load(path: Path, now_s: float) -> tuple[list[str], float] | None:
    """(names, age in seconds), or None if there is nothing usable."""
    if os.environ.get(REFRESH):
        return None
    try:
        found = json.loads(path.read_text())
        names, age_s = [str(name) for name in found["names"]], now_s - float(found["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (names, age_s) if 0 <= age_s < STALE_S else None


def save(path: Path, names: Sequence[str], now_s: float) -> None:
    """Keep what core told; a cache that cannot be written is none."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"at": now_s, "names": list(names)}, file)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)


def renew() -> bool:
    """Ask core in a process of its own, which is not waited for; False where that cannot be done."""
    if Path(sys.argv[0]).name not in _PROGRAMS:
        return False
    null = subprocess.DEVNULL
    environment = {**os.environ, REFRESH: "1"}
    try:
        subprocess.Popen(sys.orig_argv, stdin=null, stdout=null, stderr=null, env=environment, start_new_session=True)
    except OSError:
        return False
    return True
