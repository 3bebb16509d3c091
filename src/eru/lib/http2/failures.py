"""How a call of another process can fail."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from urllib.parse import unquote


class Code(enum.IntEnum):
    """gRPC's status numbers."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcFailed(Exception):
    """A call that did not end well. `sent` False: the other side certainly did nothing."""

    def __init__(self, code: Code, details: str, *, sent: bool = True) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.sent = sent


_OF_HTTP = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}


def of_http(status: bytes) -> RpcFailed:
    """An answer that is not gRPC's."""
    number = int(status) if status.isdigit() else 0
    return RpcFailed(_OF_HTTP.get(number, Code.UNKNOWN), f"HTTP status {number} instead of an answer")


def of_trailers(told: Mapping[bytes, bytes]) -> RpcFailed | None:
    """What the last headers of a call say; None: it ended well."""
    status = told.get(b"grpc-status", b"")
    if status == b"0":
        return None
    if not status.isdigit():
        return RpcFailed(Code.UNKNOWN, "the answer ended without a status")
    number = int(status)
    code = Code(number) if number in Code.__members__.values() else Code.UNKNOWN
    text = unquote(told.get(b"grpc-message", b"").decode("latin-1"), errors="replace")
    return RpcFailed(code, text or f"status {number} and no word")
