"""A real terminal to look at and to type into: tmux on a socket of its own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

WAIT_S = 60.0
LOOK_S = 0.05


class Terminal:
    """One session; `screen` is what a person sees."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, "-f", "/dev/null", *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        assert done.returncode == 0, f"tmux {' '.join(words)}: {done.stderr}"
        return done.stdout

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def type(self, *keys: str) -> None:
        """Keys by tmux's names (`Enter`, `Escape`, `C-c`), or text."""
        self.tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def until(self, there: str | re.Pattern[str] | Callable[[str], object]) -> str:
        """Wait until the screen shows a text, matches a pattern, or satisfies; the screen."""
        if isinstance(there, str):
            happened: Callable[[str], object] = lambda screen: there in screen  # noqa: E731
        else:
            happened = there.search if isinstance(there, re.Pattern) else there
        deadline = time.monotonic() + WAIT_S
        while not happened(screen := self.screen()):
            assert time.monotonic() < deadline, f"{there!r} did not appear; the screen is:\n{screen}"
            time.sleep(LOOK_S)
        return screen

    @contextmanager
    def running(self, command: str, columns: int, rows: int) -> Iterator[Self]:
        """With a shell command in it, until that ends."""
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), command)
        try:
            yield self
        finally:
            subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)


class Shell(Terminal):
    """A person's shell, in which one `eru` command after the other is typed."""

    def __init__(self, socket: str, eru: str) -> None:
        super().__init__(socket)
        self._eru = eru

    def screen(self) -> str:
        """Without the typed command, and without blanks at the end of lines."""
        lines = super().screen().rstrip("\n").splitlines()
        return "\n".join(line.rstrip() for line in lines if self._eru not in line)

    def run(self, command: str) -> None:
        """Clear, then type `eru COMMAND`; at the end its exit code is shown."""
        self.tmux("send-keys", "-R")
        self.tmux("clear-history")
        self.type(f"clear; {self._eru} {command}; echo exit=$?", "Enter")

    def sees(self, pattern: str) -> str:
        """Wait until a line matches; `^` and `$` are the ends of lines."""
        return self.until(re.compile(pattern, re.MULTILINE))

    def until_raw(self) -> None:
        """A program inside has the terminal."""
        deadline = time.monotonic() + WAIT_S
        with open(self.tmux("display-message", "-p", "#{pane_tty}").strip()) as terminal:
            while termios.tcgetattr(terminal)[3] & termios.ICANON:
                assert time.monotonic() < deadline, "the terminal is not raw"
                time.sleep(LOOK_S)


@contextmanager
def terminal(
    socket: str, command: list[str], env: dict[str, str], columns: int = 110, rows: int = 24
) -> Iterator[Terminal]:
    """`command` in a terminal; a shell remains when it has ended."""
    words = [f"{key}={value}" for key, value in {"PS1": "% ", "LC_ALL": "C.UTF-8", **env}.items()]
    script = (
        f"trap : INT; {shlex.join(command)}; echo ended:$?; exec sh"  # Ctrl-C is for the command, not for the shell
    )
    line = f"exec env {shlex.join(words)} sh -c {shlex.quote(script)}"
    with Terminal(socket).running(line, columns, rows) as made:
        yield made


@contextmanager
def shell(socket: str, eru: str, env: dict[str, str], columns: int, rows: int) -> Iterator[Shell]:
    """A shell that waits for commands."""
    line = shlex.join(["env", *(f"{key}={value}" for key, value in {**env, "PS1": "$ "}.items()), "sh"])
    with Shell(socket, eru).running(line, columns, rows) as made:
        made.sees(r"^\$")
        yield made
