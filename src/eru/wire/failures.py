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
_AUTH_PREFIX = "invalid grpc "


def remote_error(method: Method[Any, Any], address: str, error: grpc.aio.AioRpcError) -> RemoteError:
    """The error to raise for a call that failed with `error` at `address`."""
    trailers: dict[str, Any] = dict(error.trailing_metadata() or ())
    text = error.details() or ""
    status = error.code()
    kind = str(trailers.get(TRAILER_KIND, ""))
    if status is grpc.StatusCode.UNAVAILABLE and not kind:
        return CoreUnreachable(f"core at {address} does not answer: {text}", rpc=method.name, code=14)
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
