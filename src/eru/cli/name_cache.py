"""Names that core told lately, and whole answers to TAB, so that a shell has one at once.

Small files in `eru` of XDG_CACHE_HOME or ~/.cache, for their owner only: one
per cluster and kind of name, and one per line that was completed, so that the
same TAB needs neither core nor the command's own module. What is fresh is used
as it is; what is older is used too, and renewed behind the user's back.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from eru.cli.context.place import changed_ns

FRESH_S = 5.0  # as good as asking
STALE_S = 3600.0  # better than nothing
REFRESH = "ERU_COMPLETE_REFRESH"  # set for the process that renews: it asks core, and nobody waits for it
FILES_MAX = 100
_ASKED = ("COMP_", "ERU", "_ERU", "PATH", "PWD")  # variables that an answer depends on
_PROGRAMS = ("eru", "eru-cli")


def place(kind: str, about: Sequence[str]) -> Path:
    """The file for one kind of names or answers; `about` tells one cluster or line from another."""
    base = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"))
    digest = hashlib.sha256("\0".join(about).encode()).hexdigest()[:16]
    return base / "eru" / f"{kind}-{digest}.json"


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
    """Keep what core told; a cache that cannot be written, or whose place depends on where one stands, is none."""
    if not path.is_absolute():
        return
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"at": now_s, "names": list(names)}, file)
        fresh.replace(path)
        _prune(path.parent)
    except OSError:
        fresh.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """No more files than are of use."""
    files = sorted(folder.glob("*.json"), key=lambda each: each.stat().st_mtime)
    for old in files[:-FILES_MAX]:
        old.unlink(missing_ok=True)


def of_line(program: str, version: str, config: Path) -> Path:
    """The file with the answer to the line that the shell asks about."""
    given = [f"{key}={value}" for key, value in sorted(os.environ.items()) if key.startswith(_ASKED) and key != REFRESH]
    return place("answer", [program, version, str(config), str(changed_ns(config)), *given])


def renew() -> bool:
    """Ask core in a process of its own, which is not waited for; False where that cannot be done."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":  # `python -m eru`
        program = program.parent
    if program.name not in _PROGRAMS:
        return False
    null = subprocess.DEVNULL
    environment = {**os.environ, REFRESH: "1"}
    try:
        subprocess.Popen(sys.orig_argv, stdin=null, stdout=null, stderr=null, env=environment, start_new_session=True)
    except OSError:
        return False
    return True
