"""From an error of the model to what travels: a number, one sentence, and our own trailers.

The published API gives each call its own number, far above gRPC's 0 to 16.
grpc.aio takes such a number from any object whose `.value` is a pair, which is
what `Status` is; a plain int would arrive as 2.
"""

from __future__ import annotations

from typing import Any

import msgspec

from eru.model import errors
from eru.model.refusals import Refusal
from eru.wire.failures import TRAILER_CODE, TRAILER_KIND, TRAILER_REFUSALS, TRAILER_TRACE
from eru.wire.methods import Method

OK = 0
CANCELLED = 1
UNKNOWN = 2
INTERNAL = 13
UNAVAILABLE = 14
UNIMPLEMENTED = 12

SENTENCE_CHARS_MAX = 1500  # of an error's text; everything travels in one header block
REFUSALS_BYTES_MAX = 2400  # packed; many clients refuse header blocks above 8 KiB


class NoIDs(errors.InvalidInput):
    """A list of workload ids is empty. Published cores answer it with status 2, whatever the call."""

    def __init__(self) -> None:
        super().__init__("no workload IDs given")


class BadAuth(errors.InvalidInput):
    """Who calls did not prove who they are. Always status 2, as published."""


class NotOffered(errors.NotSupported):
    """This version of core has no handler for the call."""

    def __init__(self, rpc: str) -> None:
        super().__init__(f"this version of core does not offer {rpc}")


class Status:
    """What grpc.aio's `abort` takes for a status of any number."""

    def __init__(self, number: int, text: str = "") -> None:
        self.value = (number, text)


# First match counts, so subclasses stand before their bases.
_STANDARD: list[tuple[type[errors.EruError], int]] = [
    (errors.NotSupported, UNIMPLEMENTED),
    (errors.NoCapacity, 8),
    (errors.InvalidInput, 3),
    (errors.NotFound, 5),
    (errors.AlreadyExists, 6),
    (errors.Refused, 9),
    (errors.Conflict, 10),
    (errors.Expired, 4),
    (errors.EngineUnreachable, 14),
    (errors.EngineMissing, 5),
    (errors.EngineError, 9),
    (errors.StoreError, 14),
]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A failed call in its travelling form."""

    number: int
    sentence: str
    trailers: tuple[tuple[str, str | bytes], ...]


def failure_of(method: Method[Any, Any], error: errors.EruError, trace: str) -> Failure:
    """How `error` travels as the outcome of `method`."""
    number = number_of(method, error)
    trailers: list[tuple[str, str | bytes]] = [
        (TRAILER_CODE, str(number)),
        (TRAILER_KIND, type(error).__name__),
        (TRAILER_TRACE, trace),
    ]
    refusals = getattr(error, "refusals", [])
    if refusals:
        trailers.append((TRAILER_REFUSALS, _packed(refusals)))
    return Failure(number=number, sentence=sentence_of(error), trailers=tuple(trailers))


def number_of(method: Method[Any, Any], error: errors.EruError) -> int:
    """The numeric status: the call's own, unless the call has none or the rule says otherwise."""
    if isinstance(error, (NoIDs, BadAuth)):
        return UNKNOWN
    if isinstance(error, NotOffered):
        return UNIMPLEMENTED
    if method.number:
        return method.number
    return next((number for kind, number in _STANDARD if isinstance(error, kind)), UNKNOWN)


def sentence_of(error: BaseException) -> str:
    """The error's text as one bounded line; never a traceback."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__
    return text if len(text) <= SENTENCE_CHARS_MAX else text[: SENTENCE_CHARS_MAX - 3] + "..."


def _packed(refusals: list[Refusal]) -> bytes:
    """As many reasons as fit into a trailer."""
    size = len(refusals)
    while True:
        packed = msgspec.msgpack.encode(refusals[:size])
        if len(packed) <= REFUSALS_BYTES_MAX or size == 1:
            return packed
        size = max(1, min(size - 1, size * REFUSALS_BYTES_MAX // len(packed)))
