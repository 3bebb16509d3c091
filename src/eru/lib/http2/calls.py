"""One call of a client's connection: its messages in both directions, and how it ended."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from eru.lib.http2.failures import Code, RpcFailed

if TYPE_CHECKING:
    from eru.lib.http2.client import Connection

STREAM_WINDOW_BYTES = 1024 * 1024  # of one answer that its reader has not taken
_PREFIX_BYTES = 5  # in front of each message: compressed or not, and its length


class ClientCall:
    """One call. `single`: its answer is one message, looked at when it is complete."""

    __slots__ = (
        "_changed",
        "_connection",
        "_failure",
        "_messages",
        "_over",
        "_partly",
        "_single",
        "backlog",
        "ending",
        "id",
        "owed",
        "window",
    )

    def __init__(self, connection: Connection, id: int, window: int, single: bool) -> None:
        self.id = id
        self.window = window  # bytes that the server still takes on this stream
        self.owed = 0  # bytes that came and were not given back to it yet
        self.backlog = bytearray()  # what the server's windows do not let through
        self.ending = False  # the backlog is the last
        self._connection = connection
        self._single = single
        self._partly = bytearray()
        self._messages: deque[bytes] = deque()
        self._over = False
        self._failure: RpcFailed | None = None
        self._changed: asyncio.Future[None] | None = None

    def send(self, message: bytes, *, end: bool = False) -> None:
        """A message; after the one with `end` comes no other. A call that has ended takes it and says nothing."""
        if not self._over:
            self._connection.send(self, b"\0" + len(message).to_bytes(4, "big") + message, end)

    async def answer(self) -> bytes:
        """The one message of a call that has ended well. Raises RpcFailed."""
        while not self._over:
            await self._wait()
        if self._failure is not None:
            raise self._failure
        if len(self._messages) != 1:
            raise RpcFailed(Code.INTERNAL, f"one message was expected as an answer, {len(self._messages)} came")
        return self._messages[0]

    async def read(self) -> bytes | None:
        """The next message; None after the last one of a call that has ended well. Raises RpcFailed."""
        while not self._messages:
            if self._failure is not None:
                raise self._failure
            if self._over:
                return None
            await self._wait()
        message = self._messages.popleft()
        if not self._messages:
            self._connection.give_credit(self)
        return message

    def cancel(self) -> None:
        """Nobody waits for it any more; no error when it has ended."""
        self._give_up(RpcFailed(Code.CANCELLED, "the call was cancelled"))

    def expire(self) -> None:
        """Its time is over."""
        self._give_up(RpcFailed(Code.DEADLINE_EXCEEDED, "no answer in time"))

    def _give_up(self, why: RpcFailed) -> None:
        if not self._over:
            self._connection.reset(self)
            self.end(why)

    # What the connection tells.

    def received(self, data: bytes, size: int) -> None:
        """Bytes of the answer; `size`: what they took of the window."""
        self.owed += size
        self._partly += data
        while len(self._partly) >= _PREFIX_BYTES:
            length = int.from_bytes(self._partly[1:_PREFIX_BYTES], "big")
            if self._partly[0]:
                self._give_up(RpcFailed(Code.INTERNAL, "a compressed message that nobody asked for"))
                return
            if length > (most := self._connection.message_bytes_max):
                text = f"received message larger than max ({length} vs. {most})"
                self._give_up(RpcFailed(Code.RESOURCE_EXHAUSTED, text))
                return
            end = _PREFIX_BYTES + length
            if len(self._partly) < end:
                break
            self._messages.append(bytes(self._partly[_PREFIX_BYTES:end]))
            del self._partly[:end]
        if self._single or not self._messages:
            self._connection.give_credit(self)
        else:
            self._wake()

    def end(self, failure: RpcFailed | None) -> None:
        """The last that is heard of it."""
        if self._over:
            return
        self._over, self._failure = True, failure
        self._connection.over(self)
        self._wake()

    async def _wait(self) -> None:
        changed = self._changed
        if changed is None or changed.done():
            changed = self._changed = asyncio.get_running_loop().create_future()
        await changed

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
