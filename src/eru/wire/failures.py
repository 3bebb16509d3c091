"""What a client makes of a failed call: the model's `RemoteError`, with number and kind.

A grpcio client shows every status number above 16 as UNKNOWN. Our core
repeats the number (and more) in trailers; for a published core the number
follows from the call, because each call has exactly one.
"""

from __future__ import annotations

from typing import Any

import grpc
import msgspec

from eru.model.errors import CoreUnreachable, RemoteError
from eru.model.refusals import Refusal
from eru.wire.methods import Method

TRAILER_CODE = "eru-code"
TRAILER_KIND = "eru-kind"
TRAILER_TRACE = "eru-trace"
TRAILER_REFUSALS = "eru-refusals-bin"
METADATA_TTY = "eru-tty"  # sent by clients; "0": standard input is no terminal
HEADER_BEGUN = "eru-begun"  # sent at once for calls that change something
_AUTH_PREFIX = "invalid grpc "
_NEVER_BEGUN = "CANCELLED"  # grpc's whole text for a call that a stopping server never looked at
_NEVER_SENT = "failed to connect to all addresses"  # how grpc begins to say that there was no connection


class NotBegun(CoreUnreachable):
    """A core that is going away did not begin the call: any other may be asked, whatever the call does."""


def remote_error(method: Method[Any, Any], address: str, error: grpc.aio.AioRpcError) -> RemoteError:
    """The error to raise for a call that failed with `error` at `address`."""
    trailers: dict[str, Any] = dict(error.trailing_metadata() or ())
    text = error.details() or ""
    status = error.code()
    kind = str(trailers.get(TRAILER_KIND, ""))
    if status is grpc.StatusCode.UNAVAILABLE and not kind:
        if text.startswith(_NEVER_SENT):
            return NotBegun(f"core at {address} does not answer: {text}", rpc=method.name, code=14)
        if method.safe:
            return CoreUnreachable(f"core at {address} went away: {text}", rpc=method.name, code=14)
        text = f"core at {address} went away during {method.name}, look whether it was done: {text}"
        return RemoteError(text, rpc=method.name, code=14)
    begun = HEADER_BEGUN in dict(error.initial_metadata() or ())
    if status is grpc.StatusCode.CANCELLED and text == _NEVER_BEGUN and not kind and not begun:
        return NotBegun(f"core at {address} is going away", rpc=method.name, code=14)
    if status is grpc.StatusCode.DEADLINE_EXCEEDED and not kind:
        text = f"core at {address} did not answer {method.name} in time"
    if status is grpc.StatusCode.UNIMPLEMENTED:
        text = f"core at {address} does not offer {method.name}"
    return RemoteError(
        text or f"{method.name} failed at {address} with status {status.name}",
        rpc=method.name,
        code=_number(method, status, text, trailers),
        kind=kind,
        refusals=_refusals(trailers),
    )


def _number(method: Method[Any, Any], status: grpc.StatusCode, text: str, trailers: dict[str, Any]) -> int:
    told = str(trailers.get(TRAILER_CODE, ""))
    if told.isdecimal():
        return int(told)
    hidden = status is grpc.StatusCode.UNKNOWN and method.number and not text.startswith(_AUTH_PREFIX)
    return method.number if hidden else int(status.value[0])


def _refusals(trailers: dict[str, Any]) -> list[Refusal]:
    packed = trailers.get(TRAILER_REFUSALS, b"")
    if not isinstance(packed, bytes) or not packed:
        return []
    try:
        return msgspec.msgpack.decode(packed, type=list[Refusal])
    except msgspec.DecodeError:
        return []  # a newer core may know reasons that we do not
