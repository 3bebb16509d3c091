"""What the fake engine's workloads "run": a handful of shell words.

Known: echo, printf (as echo without newline), cat, true, false, exit, sleep,
env, pwd, whoami, `stty size`, `sh -c` with `;` and `&&`, and `>&2`. A main
program that is not known runs until it is stopped, as a service does; an
unknown one in exec is not found.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from eru.engine.contract import Stream


@dataclass(frozen=True, slots=True)
class Say:
    """Print."""

    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let time pass; `math.inf`: until stopped."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cat:
    """Copy a file, or the input when `path` is empty, to the output."""

    path: str


@dataclass(frozen=True, slots=True)
class Size:
    """Print the terminal's rows and columns."""


@dataclass(frozen=True, slots=True)
class Exit:
    """End with this code."""

    code: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A program that is not there."""

    program: str


Step = Say | Sleep | Cat | Size | Exit | Unknown


def parse(commands: Sequence[str], env: Sequence[str] = (), dir: str = "", user: str = "") -> list[Step]:
    """The steps of a command line; always ends with Exit, Unknown or an endless Sleep."""
    if len(commands) >= 3 and commands[0].rpartition("/")[2] in ("sh", "bash", "ash") and commands[1] == "-c":
        return _script(commands[2], env, dir, user)
    return _finish(_one(list(commands), env, dir, user))


def _script(text: str, env: Sequence[str], dir: str, user: str) -> list[Step]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return [Unknown("sh")]
    steps: list[Step] = []
    command: list[str] = []
    for word in [*words, ";"]:
        if word not in (";", "&&"):
            command.append(word)
            continue
        if command:
            part = _one(_mend_redirect(command), env, dir, user)
            steps.extend(part)
            if any(isinstance(step, Exit | Unknown) for step in part):
                # `false` and unknown words end a script only under `&&`; `exit` always does.
                if command[0] == "exit" or word == "&&":
                    break
                last = steps.pop()
                steps.append(last if isinstance(last, Unknown) else Sleep(0))
        command = []
    return _finish(steps)


def _mend_redirect(words: list[str]) -> list[str]:
    """`>&2` comes out of the lexer as `>&`, `2`."""
    mended: list[str] = []
    index = 0
    while index < len(words):
        if words[index : index + 2] == [">&", "2"]:
            mended.append(">&2")
            index += 2
        else:
            mended.append(words[index])
            index += 1
    return mended


def _finish(steps: list[Step]) -> list[Step]:
    last = steps[-1] if steps else None
    if isinstance(last, Exit | Unknown) or (isinstance(last, Sleep) and math.isinf(last.seconds)):
        return steps
    return [*steps, Exit(0)]


def _one(words: list[str], env: Sequence[str], dir: str, user: str) -> list[Step]:
    stream = Stream.STDERR if ">&2" in words else Stream.STDOUT
    words = [word for word in words if word != ">&2"]
    if not words:
        return [Sleep(math.inf)]
    program, args = words[0].rpartition("/")[2], words[1:]
    texts = {
        "echo": " ".join(args) + "\n",
        "printf": " ".join(args),
        "env": "".join(f"{entry}\n" for entry in env),
        "pwd": (dir or "/") + "\n",
        "whoami": (user or "root") + "\n",
    }
    if program in texts:
        return [Say(stream, texts[program].encode())]
    if program == "stty" and args == ["size"]:
        return [Size()]
    if program == "cat":
        return [Cat(path) for path in args] or [Cat("")]
    if program == "sleep":
        return [Sleep(_seconds(args))]
    codes = {"true": 0, "false": 1, "exit": int(args[0]) if args and args[0].isdigit() else 0}
    if program in codes:
        return [] if program == "true" else [Exit(codes[program])]
    return [Unknown(words[0])]


def _seconds(args: list[str]) -> float:
    try:
        return max(float(args[0]), 0.0)
    except (IndexError, ValueError):
        return math.inf
