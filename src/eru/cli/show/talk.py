"""What is said to a person, on standard error; data goes to standard output elsewhere.

Quiet silences everything but errors; verbose adds one line per call with its
milliseconds. Colour only on a terminal that wants it (NO_COLOR,
CLICOLOR=0, TERM=dumb), or where CLICOLOR_FORCE demands it.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from eru.cli.exits import Problem

RED, YELLOW, GREEN, CYAN, DIM = "31", "33", "32", "36", "2"
ALARM = "1;97;41"  # white on red
# where a sentence has a command, not a pod of that name
_OURS = re.compile(
    r"(?:^|(?<=[`(])|(?<=\bor )|(?<=\bor: )|(?<=then )|(?<=, ))"
    r"eru (?!up\b|down\b|agent\b|core\b(?! info| watch))(?=[a-z-])"
)


def wants_colour(out: TextIO) -> bool:
    """Whether `out` is a terminal whose user has not declined colour, or the user wants it anywhere."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return out.isatty() and os.environ.get("TERM") != "dumb" and os.environ.get("CLICOLOR") != "0"


def counted(number: int, noun: str) -> str:
    """`1 node`, `3 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def typed(text: str, program: str) -> str:
    """Commands in a hint as the user types them; those that only `eru` has stay as they are."""
    return _OURS.sub(f"{program} ", text)


class Talk:
    """The voice of one command of `program`."""

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, out: TextIO | None = None, program: str = "eru"
    ) -> None:
        self.program = program
        self.out = out if out is not None else sys.stderr
        self.quiet = quiet
        self.verbose = verbose
        self.colour = wants_colour(self.out)
        self.live = self.out.isatty() and os.environ.get("TERM") != "dumb" and not quiet

    def paint(self, text: str, colour: str) -> str:
        """`text` in a colour, or as it is."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour else text

    def say(self, text: str) -> None:
        """Progress and results, for people."""
        if not self.quiet:
            self._line(text)

    def good(self, text: str) -> None:
        """Something was done."""
        if not self.quiet:
            self._line(f"{self.paint('✓', GREEN)} {text}")

    def bad(self, text: str) -> None:
        """One item of many failed; said even when quiet."""
        self._line(f"{self.paint('✗', RED)} {text}")

    def tally(self, done: int, total: int, what: str) -> None:
        """How many of several were done, when not all were; said even when quiet."""
        if done < total > 1:
            self._line(f"{done} of {total} {what}")

    def warn(self, text: str) -> None:
        """Something looks wrong, but the command goes on."""
        if not self.quiet:
            self._line(f"{self.paint('warning:', YELLOW)} {text}")

    def next(self, command: str) -> None:
        """The next useful command, ready to be copied."""
        if not self.quiet:
            self._line(self.paint(f"next: {typed(command, self.program)}", DIM))

    def call(self, name: str, seconds: float, result: str) -> None:
        """One call to core, only when verbose."""
        if self.verbose:
            self._line(self.paint(f"· {name} {seconds * 1000:.1f} ms {result}", DIM))

    def detail(self, text: str) -> None:
        """What is only of interest when looking closely."""
        if self.verbose:
            self._line(self.paint(f"· {text}", DIM))

    def banner(self, text: str) -> None:
        """A line that must not be overlooked, on a terminal only; said even when quiet."""
        if self.out.isatty():
            self._line(self.paint(text, ALARM))

    def problem(self, problem: Problem) -> None:
        """What, why, hint."""
        for line in problem.lines():
            label, _, rest = line.partition(": ")
            rest = rest if label == "error" else typed(rest, self.program)
            colour = {"error": RED, "  why": DIM, "  hint": CYAN}.get(label, DIM)
            self._line(f"{self.paint(label + ':', colour)} {rest}")

    def _line(self, text: str) -> None:
        try:
            print(text, file=self.out, flush=True)
        except BrokenPipeError:
            raise
        except OSError:
            pass  # words that find no room on a disk are no reason to stop what they tell of
