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
    _opened()
    from eru.cli.app import root, run

    _leave(run(root(), "eru"))


def cli_main() -> None:
    """`eru-cli`: the client commands only."""
    _opened()
    from eru.cli.app import published_root, run

    _leave(run(published_root(), "eru-cli"))


def _opened() -> None:
    """Standard streams that were closed (`>&-`) go nowhere; otherwise a socket would get their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None and os.open(os.devnull, os.O_RDWR) == number:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115 - for the whole process


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
    _opened()
    from eru.cli.app import run
    from eru.roots.core import command

    sys.exit(run(command, "eru-core"))


def agent_main() -> None:
    """`eru-agent`: the agent of a node."""
    _opened()
    from eru.cli.app import run
    from eru.roots.agent import command

    sys.exit(run(command, "eru-agent"))


if __name__ == "__main__":
    main()
