"""Lease keep-alives over one stream: etcd answers them in order, so many can be on their way.

A stream for each beat costs five messages and a round trip more than the
beat itself: 1,000 nodes' heartbeats took twice the CPU.
"""

from __future__ import annotations

import asyncio
from collections import deque

from eru.lib.http2.calls import ClientCall
from eru.lib.http2.client import Metadata
from eru.lib.http2.failures import RpcFailed
from eru.lib.tasks import TaskOwner
from eru.model.errors import StoreUnavailable
from eru.store.etcd import rpc_pb2 as pb
from eru.store.etcd.member import Member
from eru.store.etcd.methods import LEASE_KEEP_ALIVE

WAITING_MAX = 100_000  # beats that may wait for their answer


class Beats:
    """One stream to one member; a new one after it broke, or when another member is asked."""

    def __init__(self) -> None:
        self._tasks = TaskOwner("etcd beats", shared=True)
        self._line: _Line | None = None

    async def beat(self, member: Member, metadata: Metadata, lease: int, timeout_s: float) -> int:
        """The lease's time to live from now, 0 when it has ended.

        Raises RpcFailed as the stream does, StoreUnavailable when it ended without a word or said nothing in time.
        """
        line = self._line
        if line is None or line.broken or line.member is not member or line.metadata != metadata:
            line = self._line = _Line(member, metadata)
            self._tasks.start("read", line.run())
        answer = line.ask(lease)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            line.end(StoreUnavailable(f"no answer to a keep-alive in {timeout_s:g} s"))
            raise StoreUnavailable(f"no answer to a keep-alive in {timeout_s:g} s") from error

    async def close(self) -> None:
        """Nothing beats any more; what waits fails."""
        if self._line is not None:
            self._line.end(StoreUnavailable("the store is closed"))
        await self._tasks.close()


class _Line:
    """A stream, and who waits for what on it. `run` opens it and reads it to its end."""

    def __init__(self, member: Member, metadata: Metadata) -> None:
        self.member = member
        self.metadata = metadata
        self.broken = False
        self._stream: ClientCall | None = None
        self._unsent: list[int] = []  # while the stream is being opened
        self._waiting: dict[int, deque[asyncio.Future[int]]] = {}
        self._many = 0

    def ask(self, lease: int) -> asyncio.Future[int]:
        """What will be answered. Raises StoreUnavailable when too many wait."""
        if self._many >= WAITING_MAX:
            raise StoreUnavailable(f"{WAITING_MAX} keep-alives wait for etcd already")
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(lease, deque()).append(answer)
        self._many += 1
        if self._stream is None:
            self._unsent.append(lease)
        else:
            self._send(self._stream, lease)
        return answer

    def end(self, why: BaseException) -> None:
        """Whoever waits hears why."""
        if self.broken:
            return
        self.broken = True
        if self._stream is not None:
            self._stream.cancel()
        for answers in self._waiting.values():
            for answer in answers:
                if not answer.done():
                    answer.set_exception(why)
        self._waiting.clear()

    async def run(self) -> None:
        """Ends with the stream, and ends what waits for it."""
        try:
            self._stream = stream = await self.member.stream(LEASE_KEEP_ALIVE, self.metadata)
            for lease in self._unsent:
                self._send(stream, lease)
            while (message := await stream.read()) is not None:
                self._take(LEASE_KEEP_ALIVE.answer.FromString(message))
            self.end(StoreUnavailable("the stream ended"))
        except RpcFailed as error:
            self.end(error)
        finally:
            self.end(StoreUnavailable("the stream was closed"))

    def _send(self, stream: ClientCall, lease: int) -> None:
        stream.send(pb.LeaseKeepAliveRequest(ID=lease).SerializeToString())

    def _take(self, answer: pb.LeaseKeepAliveResponse) -> None:
        answers = self._waiting.get(answer.ID)
        if not answers:
            return
        waiting = answers.popleft()
        self._many -= 1
        if not answers:
            del self._waiting[answer.ID]
        if not waiting.done():
            waiting.set_result(int(answer.TTL))
