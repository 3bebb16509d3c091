"""A watch that survives its connection: gap-free, whole revisions, from where it was.

One stream per watch, so that a slow reader holds back only itself (HTTP/2
flow control reaches etcd, which then reads the watch's events from its
history). A place in the history counts as passed only after a whole revision
was handed out: the events of one transaction may come in fragments.
"""

from __future__ import annotations

import contextlib
from typing import Self

from eru.lib.http2.calls import ClientCall
from eru.lib.http2.failures import RpcFailed
from eru.lib.retry import Backoff
from eru.model.errors import Compacted, OutcomeUnknown, StoreError, StoreUnavailable
from eru.store import rules
from eru.store.contract import Change, Event, KeyValue, WatchBatch
from eru.store.etcd import rpc_pb2 as pb
from eru.store.etcd.endpoints import Endpoints
from eru.store.etcd.failures import Failure, brief, explain, judge
from eru.store.etcd.member import Member
from eru.store.etcd.methods import TXN, WATCH

RECONNECT_WAIT_S = 0.05
RECONNECT_WAIT_MOST_S = 1.0


class EtcdWatch:
    """A `Watch` on one prefix. One reader at a time; a cancelled reader may come back."""

    def __init__(self, endpoints: Endpoints, prefix: str, from_revision: int) -> None:
        self._endpoints = endpoints
        self._prefix = prefix
        self._next = from_revision
        self._stream: ClientCall | None = None
        self._member: Member | None = None
        self._parts: list[Event] = []  # of a revision that has not come whole yet
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        clock = self._endpoints.world.clock
        backoff = Backoff(self._endpoints.world, RECONNECT_WAIT_S, RECONNECT_WAIT_MOST_S)
        broken_since: float | None = None
        while not self._closed:
            try:
                stream = self._stream or await self._open()
                answer = await stream.read()
                if answer is None:
                    raise StoreUnavailable("the stream ended")
                batch = self._take(WATCH.answer.FromString(answer))
                if batch is not None:
                    return batch
                broken_since = None
            except RpcFailed as error:
                reason = await self._broken(error)
            except StoreUnavailable as error:
                self._drop()
                reason = str(error)
            else:
                continue
            if self.closed:  # while it waited
                break
            self._endpoints.check_open()
            broken_since = broken_since if broken_since is not None else clock.monotonic()
            if clock.monotonic() - broken_since > self._endpoints.settings.watch_timeout_s:
                raise StoreUnavailable(
                    f"watch of {self._prefix!r}: no etcd member of {self._endpoints.names} answered in"
                    f" {self._endpoints.settings.watch_timeout_s:g} s ({reason})"
                )
            await backoff.wait()
        raise StopAsyncIteration

    async def request_progress(self) -> None:
        """Change a key that only watches of etcd can see; its event is the proof.

        etcd's own progress requests can overtake events that are still on
        their way (several releases have that fault), and then a resumed watch
        would have a gap. An event cannot overtake.
        """
        key = rules.marker(self._prefix).encode()
        request = pb.TxnRequest(
            compare=[
                pb.Compare(key=key, result=pb.Compare.EQUAL, target=pb.Compare.CREATE, create_revision=0),
            ],
            success=[pb.RequestOp(request_put=pb.PutRequest(key=key))],
            failure=[pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))],
        )
        try:
            await self._endpoints.call(TXN, request, repeatable=False)
        except OutcomeUnknown as error:
            raise StoreUnavailable(str(error)) from error
        except RpcFailed as error:
            raise explain(error, self._endpoints.names) from error

    async def close(self) -> None:
        """End the iteration, also one that waits right now."""
        self._closed = True
        self._drop()

    @property
    def closed(self) -> bool:
        return self._closed

    def store_closed(self) -> None:
        """The connections are gone; a waiting reader gets StoreUnavailable."""
        self._drop()

    async def _open(self) -> ClientCall:
        member, metadata = await self._endpoints.member()
        stream = await member.stream(WATCH, metadata)
        self._stream, self._member, self._parts = stream, member, []
        self._metadata = metadata
        create = pb.WatchCreateRequest(
            key=self._prefix.encode(),
            range_end=rules.prefix_end(self._prefix),
            start_revision=self._next,
            progress_notify=True,
            fragment=True,
        )
        stream.send(pb.WatchRequest(create_request=create).SerializeToString())
        return stream

    def _take(self, answer: pb.WatchResponse) -> WatchBatch | None:
        """What an answer says; None when there is nothing to hand out yet."""
        if answer.canceled:
            self._refused(answer)
        if answer.created:
            return None
        if not answer.events:
            return self._progress(answer.header.revision)
        self._parts.extend(_event(event) for event in answer.events)
        if answer.fragment:
            return None
        events, self._parts = self._parts, []
        revision = events[-1].item.mod_revision
        self._next = revision + 1
        return WatchBatch(revision, [event for event in events if not event.item.key.endswith("/")])

    def _progress(self, revision: int) -> WatchBatch | None:
        if revision < self._next:
            return None
        self._next = revision + 1
        return WatchBatch(revision)

    def _refused(self, answer: pb.WatchResponse) -> None:
        self._drop()
        if answer.compact_revision:
            raise Compacted(answer.compact_revision)
        if "permission denied" in answer.cancel_reason:
            raise StoreError(
                f"etcd at {self._endpoints.names} does not permit to watch {self._prefix!r}:"
                " give the user a role on the configured prefix"
            )
        raise StoreUnavailable(answer.cancel_reason or "the watch was cancelled by etcd")

    async def _broken(self, error: RpcFailed) -> str:
        """The stream failed: be ready to open another one. Raises StoreError when that cannot help."""
        member = self._member
        self._drop()
        if self.closed:
            return "closed"
        failure = judge(error)
        if failure is Failure.LOGIN:
            with contextlib.suppress(StoreUnavailable):  # the next try asks again
                await self._endpoints.renew_login(self._metadata)
        elif failure is Failure.FINAL:
            raise explain(error, self._endpoints.names) from error
        elif member is not None:
            self._endpoints.leave(member)
        return brief(error)

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
        self._parts = []


def _event(event: pb.Event) -> Event:
    kv = event.kv
    key = kv.key.decode(errors="replace")
    if event.type == pb.Event.DELETE:
        return Event(Change.DELETE, rules.tombstone(key, kv.mod_revision))
    return Event(
        Change.PUT,
        KeyValue(key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease),
    )
