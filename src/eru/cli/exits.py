"""Exit codes, and what a user is told when something goes wrong.

The codes are a contract with scripts (docs/cli/README.md). Every failure that
reaches the user is a `Problem`: what happened, why, and what to do next.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eru.model import errors

if TYPE_CHECKING:
    from eru.model.refusals import Refusal


class Exit(enum.IntEnum):
    """How a command ended. `exec` and `lambda` pass on the remote command's own code instead.

    Partly done is an error: a script that goes on after it must have looked. How
    many parts failed is said in words.
    """

    OK = 0
    ERROR = 1
    USAGE = 2
    PARTLY = 1  # the same number as ERROR, by another name where it is meant
    NOT_FOUND = 4
    REFUSED = 5
    INTERRUPTED = 130


# The published program has one code for every error that ends a command, and one for words it does not know. Parts
# that failed inside a command that ended were 0 there and are PARTLY here.
PUBLISHED_ERROR = 255
PUBLISHED_UNKNOWN_WORD = 3


class Problem(Exception):
    """A failure as the user sees it.

    `what` is the sentence that matters, `why` the details (numbers, core's own
    words), `hint` the next step, ideally a command that can be copied.
    """

    def __init__(self, what: str, *, why: Sequence[str] | str = (), hint: str = "", code: int = Exit.ERROR) -> None:
        super().__init__(what)
        self.what = what
        self.why = [why] if isinstance(why, str) else [line for line in why if line]
        self.hint = hint
        self.code = code

    def lines(self) -> list[str]:
        """The three parts, one per line, without colour."""
        told = [f"error: {self.what}"]
        told += [f"  why: {line}" for line in self.why]
        if self.hint:
            told.append(f"  hint: {self.hint}")
        return told


def usage(what: str, *, why: Sequence[str] | str = (), hint: str = "") -> Problem:
    """The command line or a file given to it is wrong."""
    return Problem(what, why=why, hint=hint, code=Exit.USAGE)


def not_found(what: str, *, why: Sequence[str] | str = (), hint: str = "") -> Problem:
    """A named thing does not exist."""
    return Problem(what, why=why, hint=hint, code=Exit.NOT_FOUND)


# Published cores tell the kind of a failure only by these words.
_ABSENT = ("entity count invalid", "pod not found", "node not exists", "No such container", "no such container")
_ABSENT_KEY = re.compile(r"key: /(pod/info|node|workloads)/([^:]+): bad `Count` value")
_NOUNS = {"pod/info": "pod", "node": "node", "workloads": "workload"}
_REFUSED = (
    "not enough",
    "node map is empty",
    "cannot alloc",
    "still has",
    "key exists",
    "already exists",
    "no node meets",
    "pod has no nodes",
    "reached nodelimit",
)
_INVALID = ("is empty", "invalid deploy count", "has '_' character", "no entry in spec", "deploy method not support")
_KIND_CODES = {
    "InvalidInput": Exit.USAGE,
    "NotFound": Exit.NOT_FOUND,
    "EngineMissing": Exit.NOT_FOUND,
    "Refused": Exit.REFUSED,
    "NoCapacity": Exit.REFUSED,
    "AlreadyExists": Exit.REFUSED,
}
_CLASS_CODES: list[tuple[type[errors.EruError], Exit]] = [
    (errors.InvalidInput, Exit.USAGE),
    (errors.NotFound, Exit.NOT_FOUND),
    (errors.Refused, Exit.REFUSED),
    (errors.AlreadyExists, Exit.REFUSED),
]


def code_of(kind: str, text: str) -> Exit:
    """The exit code for a failure that core described with `kind` (ours) or only with `text` (any core)."""
    if kind:
        return _KIND_CODES.get(kind, Exit.ERROR)
    for words, code in ((_ABSENT, Exit.NOT_FOUND), (_REFUSED, Exit.REFUSED), (_INVALID, Exit.USAGE)):
        if any(word in text for word in words):
            return code
    return Exit.ERROR


def explain(error: errors.EruError) -> Problem:
    """What to tell about an error from core or from our own rooms."""
    if isinstance(error, errors.CoreUnreachable):
        notes = getattr(error, "__notes__", [])
        start = "start one with `eru up` or `eru core`, or name yours with --eru HOST:PORT or the variable ERU"
        return Problem(str(error), hint=notes[0] if notes else "" if "cannot be talked to" in str(error) else start)
    if isinstance(error, errors.RemoteError):
        return _remote(error)
    for kind, code in _CLASS_CODES:
        if isinstance(error, kind):
            return Problem(str(error), code=code)
    return Problem(str(error))


def _remote(error: errors.RemoteError) -> Problem:
    text = str(error)
    why = refusal_lines(error.refusals)
    hint = ""
    if text.startswith("invalid grpc"):
        return Problem(
            f"core refused the login: {text}",
            hint="give the right --username and --password (or ERU_USERNAME and ERU_PASSWORD)",
        )
    if error.code == 12:
        why.append("the core is older than this command, or a published one")
    code = code_of(error.kind, text)
    if (absent := _ABSENT_KEY.search(text)) and not error.kind:
        why.append(f"core says: {text}")
        text = f"there is no {_NOUNS[absent[1]]} {absent[2]}"
    if not error.kind and error.code > 16:
        why.append(f"core answered {error.rpc} with code {error.code}")
    return Problem(text, why=why, hint=hint, code=code)


REASONS_SHOWN_MAX = 10  # lines


def refusal_lines(refusals: Sequence[Refusal]) -> list[str]:
    """One line per node that was ruled out, grouped when there are many with the same reason."""
    by_reason: dict[str, list[Refusal]] = {}
    for refusal in refusals:
        by_reason.setdefault(f"{_reason(refusal)} {refusal.dimension}", []).append(refusal)
    lines: list[str] = []
    for same in by_reason.values():
        if len(same) > REASONS_SHOWN_MAX:
            nearest = min(same, key=lambda each: (each.wanted - each.free, each.nodename))
            lines.append(f"{len(same)} nodes: {refusal_text(nearest)} (nearest: {nearest.nodename})")
        else:
            lines += [(f"node {each.nodename}: " if each.nodename else "") + refusal_text(each) for each in same]
    return lines


def _reason(refusal: Refusal) -> str:
    return str(getattr(refusal.reason, "value", refusal.reason))


def refusal_text(refusal: Refusal) -> str:
    """Why one node takes no instance, in words and numbers."""
    reason = _reason(refusal)
    if refusal.detail:
        return refusal.detail
    if reason == "resource":
        wanted, free = quantity(refusal.dimension, refusal.wanted), quantity(refusal.dimension, refusal.free)
        return f"{refusal.dimension} is short: {wanted} wanted, {free} free"
    sentences = {
        "bypass": "taken out of scheduling (eru node up brings it back)",
        "down": "its heartbeat is missing",
        "label": "lacks a label asked for",
        "excluded": "excluded by the request",
        "pod": "belongs to another pod",
        "limit": "has room, but the strategy allows no more there",
    }
    return sentences.get(reason, reason)


def quantity(dimension: str, number: float) -> str:
    """A number with the unit of its dimension: bytes as 512M, everything else plain."""
    if "memory" in dimension or "storage" in dimension or "volume" in dimension:
        return human_bytes(number)
    return f"{number:g}"


def human_bytes(number: float) -> str:
    """1536 -> 1.5K; binary multiples, at most two decimals."""
    sign, rest = ("-", -number) if number < 0 else ("", number)
    for unit in ("", "K", "M", "G", "T"):
        if rest < 1024:
            return f"{sign}{rest:.2f}".rstrip("0").rstrip(".") + unit
        rest /= 1024
    return f"{sign}{rest:.2f}".rstrip("0").rstrip(".") + "P"
