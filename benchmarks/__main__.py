"""All benchmarks, one after the other: `python -m benchmarks [name ...]` (what `make bench` runs).

Each prints its figures beside a baseline of the same run. Published programs
to measure against are named by ERU_PUBLISHED_CORE, ERU_PUBLISHED_AGENT,
ERU_PUBLISHED_CLI and ERU_GO_PLANBENCH; a benchmark says so when its program is absent.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

# name -> arguments that keep a whole run within a quarter of an hour; more: see each file's head
ALL = {
    "plan": ["--quick"],
    "store": [],
    "deploy": ["--nodes", "1000", "--stores", "memory,embedded,etcd"],
    "core_rpc": [],
    "scale": ["--stores", "embedded"],
    "agent": ["--containers", "1", "4", "--idle", "50", "--seconds", "15"],
    "cli": [],
    "tui": [],
    "status": ["--seconds", "4", "--rates", "20,500,5000"],
    "soak": ["--requests", "20000", "--watchers", "500"],
}


def main(names: list[str]) -> int:
    """The number of benchmarks that failed."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or ALL:
        print(f"\n##### {name}", flush=True)
        if subprocess.run([sys.executable, str(HERE / f"{name}.py"), *ALL[name]], check=False).returncode != 0:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
