"""Binding a handler to a call of the method table, checked by type.

Handlers know messages and the model, not gRPC:

    async def get_pod(request: pb.GetPodOptions, call: Call) -> pb.Pod
    async def list_nodes(request: pb.ListNodesOptions, call: Call) -> AsyncIterator[pb.Node]   # a generator
    async def execute(requests: AsyncIterator[pb.ExecuteWorkloadOptions], call: Call) -> AsyncIterator[...]

They raise errors of the model; the server turns those into status numbers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from eru.wire.methods import Method, StreamStream, UnaryStream, UnaryUnary

Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler may know of the call it answers.

    `deadline_s`: seconds the client was willing to wait when the call began,
    None for ever. `started` is on the clock's monotonic scale. `tty`: interactive
    commands get a terminal, unless the client says that it has none.
    """

    method: Method[Any, Any]
    trace: str
    peer: str
    started: float
    deadline_s: float | None
    tty: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """One method with its handler."""

    method: Method[Any, Any]
    handler: Callable[[Any, Call], Any]


class Batch:
    """Several messages of a stream, serialised once for all calls that send them. A handler may yield it."""

    __slots__ = ("_framed", "messages")

    def __init__(self, messages: Sequence[bytes]) -> None:
        self.messages = messages
        self._framed = b""

    def framed(self) -> bytes:
        """The same as they travel, each with gRPC's five bytes before it; made once."""
        if not self._framed:
            self._framed = b"".join(
                part for data in self.messages for part in (b"\0" + len(data).to_bytes(4, "big"), data)
            )
        return self._framed


def unary(method: UnaryUnary[Req, Resp], handler: Callable[[Req, Call], Awaitable[Resp]]) -> Route:
    """One request, one answer."""
    return Route(method, handler)


def stream(method: UnaryStream[Req, Resp], handler: Callable[[Req, Call], AsyncIterator[Resp | Batch]]) -> Route:
    """One request, many answers; the handler is an async generator function."""
    return Route(method, handler)


def both(method: StreamStream[Req, Resp], handler: Callable[[AsyncIterator[Req], Call], AsyncIterator[Resp]]) -> Route:
    """Many requests, many answers."""
    return Route(method, handler)
