"""Where the password of a context is, and reading it when it is needed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from eru.cli.exits import Problem, usage

COMMAND_TIMEOUT_S = 20.0  # a password manager may ask for a finger
PASSWORD_BYTES_MAX = 4096
FORMS = ("password", "password_file", "password_env", "password_command")


@dataclass(frozen=True)
class Secret:
    """One of `FORMS` and its value. `told` never shows a password."""

    form: str
    value: str

    def __repr__(self) -> str:
        return f"Secret({self.told()})"

    def told(self) -> str:
        """Where it is, for people."""
        kind = self.form.removeprefix("password_")
        return "written in the file" if self.form == "password" else f"{kind} {self.value}"

    def read(self, context: str) -> str:
        """The password. Raises Problem."""
        if self.form == "password_file":
            return _file(Path(os.path.expanduser(self.value)), context)
        if self.form == "password_env":
            return _variable(self.value, context)
        if self.form == "password_command":
            return _command(self.value, context)
        return self.value


def private(path: Path) -> bool:
    """Whether only its owner can read a file."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def _file(path: Path, context: str) -> str:
    try:
        if not private(path):
            mode = f"{stat.S_IMODE(path.stat().st_mode):04o}"
            raise usage(
                f"context {context}: others can read the password file {path} (mode {mode})",
                hint=f"chmod 600 {path}",
            )
        with path.open() as file:
            return file.read(PASSWORD_BYTES_MAX).strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise usage(f"context {context}: password file {path}: {reason}") from None


def _variable(name: str, context: str) -> str:
    if name not in os.environ:
        raise usage(f"context {context}: the variable {name} is not set", hint=f"export {name}=...")
    return os.environ[name]


def _command(line: str, context: str) -> str:
    """The first line that a program prints; the program gets the terminal, should it have to ask."""
    import shlex
    import subprocess

    try:
        words = shlex.split(line)
        done = subprocess.run(words, stdout=subprocess.PIPE, timeout=COMMAND_TIMEOUT_S, check=False, text=True)
    except (OSError, ValueError) as error:
        raise usage(f"context {context}: password_command {line!r}: {error}") from None
    except subprocess.TimeoutExpired:
        raise Problem(f"context {context}: password_command {line!r} took more than {COMMAND_TIMEOUT_S:g}s") from None
    if done.returncode != 0:
        raise Problem(f"context {context}: password_command {line!r} ended with {done.returncode}")
    return (done.stdout.splitlines() or [""])[0]
