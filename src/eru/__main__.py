"""Entry points: `eru`, and `eru-core`, `eru-agent`, `eru-cli` under the published names.

Light on purpose: a process loads only the room it runs.
"""

from __future__ import annotations

import sys

# The log library imports rich wherever it is installed, for tracebacks that no
# user of ours is shown: 40 ms of every command. These processes do without.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # None is how an import is refused


def main() -> None:
    """`eru`: one command for everything."""
    from eru.cli.app import root, run

    sys.exit(run(root(), "eru"))


def cli_main() -> None:
    """`eru-cli`: the client commands only."""
    from eru.cli.app import published_root, run

    sys.exit(run(published_root(), "eru-cli"))


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
