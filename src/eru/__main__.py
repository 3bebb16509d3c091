"""Entry points: `eru`, and `eru-core`, `eru-agent`, `eru-cli` under the published names.

Light on purpose: a process loads only the room it runs.
"""

from __future__ import annotations

import contextlib
import os
import sys

# The log library imports rich wherever it is installed, for tracebacks that no
# user of ours is shown: 40 ms of every command. These processes do without.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # None is how an import is refused


def main() -> None:
    """`eru`: one command for everything."""
    from eru.cli.app import root, run

    _leave(run(root(), "eru"))


def cli_main() -> None:
    """`eru-cli`: the client commands only."""
    from eru.cli.app import published_root, run

    _leave(run(published_root(), "eru-cli"))


def _leave(code: int) -> None:
    """End the process. After a client's command at once: its connection is closed, and taking the libraries
    down in order would cost more than most commands take.
    """
    client = "eru.cli.session" in sys.modules and not any(name.startswith("eru.roots") for name in sys.modules)
    if not client:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            stream.flush()
    os._exit(code)


def core_main() -> None:
    """`eru-core`: a core server."""
    from eru.cli.app import run
    from eru.roots.core import command

    sys.exit(run(command, "eru-core"))


def agent_main() -> None:
    """`eru-agent`: the agent of a node."""
    from eru.cli.app import run
    from eru.roots.agent import command

    sys.exit(run(command, "eru-agent"))


if __name__ == "__main__":
    main()
