"""A real terminal to look at and to type into: tmux on a socket of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WAIT_S = 60.0
LOOK_S = 0.05


class Terminal:
    """One session; `screen` is what a person sees."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-S", self._socket, *words], capture_output=True, text=True, check=False)
        return done.stdout

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def type(self, *keys: str) -> None:
        """Keys by tmux's names (`Enter`, `Escape`, `C-c`), or text."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def until(self, there: str | Callable[[str], bool]) -> str:
        """Wait until the screen shows a text, or satisfies; the screen."""
        deadline = time.monotonic() + WAIT_S
        while True:
            screen = self.screen()
            if there in screen if isinstance(there, str) else there(screen):
                return screen
            assert time.monotonic() < deadline, f"{there!r} did not appear; the screen is:\n{screen}"
            time.sleep(LOOK_S)


@contextmanager
def terminal(
    socket: str, command: list[str], env: dict[str, str], columns: int = 110, rows: int = 24
) -> Iterator[Terminal]:
    """`command` in a terminal; a shell remains when it has ended."""
    made = Terminal(socket)
    words = [f"{key}={value}" for key, value in {"PS1": "% ", "LC_ALL": "C.UTF-8", **env}.items()]
    script = (
        f"trap : INT; {shlex.join(command)}; echo ended:$?; exec sh"  # Ctrl-C is for the command, not for the shell
    )
    line = f"exec env {shlex.join(words)} sh -c {shlex.quote(script)}"
    subprocess.run(
        ["tmux", "-S", socket, "-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), line],
        check=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    try:
        yield made
    finally:
        subprocess.run(["tmux", "-S", socket, "kill-server"], check=False, capture_output=True)
