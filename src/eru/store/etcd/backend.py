"""The etcd store: the contract over etcd's v3 calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from eru.lib.http2.failures import Code, RpcFailed
from eru.lib.tasks import map_bounded
from eru.lib.world import World
from eru.model.errors import Compacted, LeaseLost, StoreUnavailable
from eru.store import rules
from eru.store.contract import (
    PAGE_ITEMS,
    TXN_OPS_MAX,
    Compare,
    KeyValue,
    Op,
    Page,
    Put,
    Target,
    TxnResult,
    Watch,
    Write,
)
from eru.store.etcd import rpc_pb2 as pb
from eru.store.etcd.beats import Beats
from eru.store.etcd.endpoints import Endpoints
from eru.store.etcd.failures import Failure, brief, explain, judge, lease_is_gone, too_large_to_receive
from eru.store.etcd.methods import COMPACT, LEASE_GRANT, LEASE_REVOKE, RANGE, TXN
from eru.store.etcd.settings import EtcdSettings
from eru.store.etcd.watching import EtcdWatch

GET_MANY_AT_ONCE = 8  # transactions of reads under way for one get_many

_RESULTS = {
    Op.EQUAL: pb.Compare.EQUAL,
    Op.GREATER: pb.Compare.GREATER,
    Op.LESS: pb.Compare.LESS,
    Op.NOT_EQUAL: pb.Compare.NOT_EQUAL,
}


class EtcdStore:
    """A `Store` on an etcd cluster."""

    def __init__(self, settings: EtcdSettings, world: World) -> None:
        """Needs a running event loop; connects with the first call. Raises InvalidInput."""
        self._endpoints = Endpoints(settings, world)
        self._settings = settings
        self._world = world
        self._watches: list[EtcdWatch] = []
        self._beats = Beats()

    @classmethod
    async def open(cls, settings: EtcdSettings, world: World) -> Self:
        """Connect and log in. Raises StoreUnavailable, StoreError, InvalidInput."""
        store = cls(settings, world)
        try:
            await store._range(pb.RangeRequest(key=b"\0", keys_only=True, limit=1), needs_permission=False)
        except BaseException:
            await store.close()
            raise
        return store

    async def get(self, key: str) -> KeyValue | None:
        rules.check_key(key)
        answer = await self._range(pb.RangeRequest(key=key.encode()))
        return _item(answer.kvs[0]) if answer.kvs else None

    async def get_many(self, keys: Sequence[str]) -> dict[str, KeyValue]:
        for key in keys:
            rules.check_key(key)
        chunks = [keys[start : start + TXN_OPS_MAX] for start in range(0, len(keys), TXN_OPS_MAX)]
        if len(chunks) <= 1:
            parts = [await self._get_chunk(chunk) for chunk in chunks]
        else:
            parts = await map_bounded(chunks, self._get_chunk, GET_MANY_AT_ONCE)
        return {item.key: item for part in parts for item in part}

    async def range(
        self,
        prefix: str,
        *,
        after: str = "",
        limit: int = PAGE_ITEMS,
        revision: int = 0,
        keys_only: bool = False,
    ) -> Page:
        rules.check_range(prefix, limit)
        start = after.encode() + b"\0" if after >= prefix else prefix.encode()
        request = pb.RangeRequest(
            key=start, range_end=rules.prefix_end(prefix), limit=limit, revision=revision, keys_only=keys_only
        )
        while True:
            answer = await self._page(request)
            at = request.revision or answer.header.revision
            items = [_item(kv) for kv in answer.kvs if not kv.key.endswith(b"/")]
            if items or not answer.more:
                return Page(items, at, answer.more)
            request.key = answer.kvs[-1].key + b"\0"  # only a watch's marker was on this page
            request.revision = at

    async def txn(self, compares: Sequence[Compare], writes: Sequence[Write]) -> TxnResult:
        rules.check_txn(compares, writes)
        request = pb.TxnRequest(
            compare=[_compare(compare) for compare in compares], success=[_write(write) for write in writes]
        )
        try:
            answer = await self._endpoints.call(TXN, request, repeatable=not writes)
        except RpcFailed as error:
            raise explain(error, self._endpoints.names) from error
        return TxnResult(answer.succeeded, answer.header.revision)

    async def grant(self, ttl_s: int) -> int:
        rules.check_ttl(ttl_s)
        try:
            answer = await self._endpoints.call(LEASE_GRANT, pb.LeaseGrantRequest(TTL=ttl_s))
        except RpcFailed as error:
            raise explain(error, self._endpoints.names) from error
        return answer.ID

    async def keep_alive(self, lease: int) -> int:
        """One beat, from any member that answers in time."""
        clock = self._world.clock
        deadline = clock.monotonic() + self._settings.request_timeout_s
        trouble: dict[str, str] = {}
        while (left_s := deadline - clock.monotonic()) > 0:
            try:
                return await self._beat(lease, left_s, trouble)
            except StoreUnavailable as error:
                self._endpoints.check_open()
                trouble.setdefault("last", str(error))
                await clock.sleep(min(0.1, left_s))
        raise self._endpoints.unavailable(trouble)

    async def revoke(self, lease: int) -> None:
        try:
            await self._endpoints.call(LEASE_REVOKE, pb.LeaseRevokeRequest(ID=lease))
        except RpcFailed as error:
            if not lease_is_gone(error):
                raise explain(error, self._endpoints.names) from error

    async def watch(self, prefix: str, from_revision: int) -> Watch:
        rules.check_watch(prefix, from_revision)
        self._endpoints.check_open()
        watch = EtcdWatch(self._endpoints, prefix, from_revision)
        self._watches = [other for other in self._watches if not other.closed]
        self._watches.append(watch)
        return watch

    async def compact(self, revision: int) -> None:
        """Forget the history of the whole cluster before `revision`."""
        try:
            await self._endpoints.call(COMPACT, pb.CompactionRequest(revision=revision))
        except RpcFailed as error:
            if "has been compacted" not in error.details:
                raise explain(error, self._endpoints.names) from error

    async def close(self) -> None:
        await self._beats.close()
        await self._endpoints.close()
        for watch in self._watches:
            watch.store_closed()

    async def _range(self, request: pb.RangeRequest, needs_permission: bool = True) -> pb.RangeResponse:
        try:
            return await self._endpoints.call(RANGE, request)
        except RpcFailed as error:
            if not needs_permission and error.code is Code.PERMISSION_DENIED:
                return pb.RangeResponse()
            raise explain(error, self._endpoints.names) from error

    async def _page(self, request: pb.RangeRequest) -> pb.RangeResponse:
        """A page; a smaller one when its values are too large for one message."""
        while True:
            try:
                return await self._endpoints.call(RANGE, request)
            except RpcFailed as error:
                if too_large_to_receive(error) and request.limit > 1:
                    request.limit //= 2
                    continue
                failure = explain(error, self._endpoints.names)
                raise (Compacted(request.revision) if isinstance(failure, Compacted) else failure) from error

    async def _get_chunk(self, keys: Sequence[str]) -> list[KeyValue]:
        """Up to TXN_OPS_MAX keys, read at one revision."""
        request = pb.TxnRequest(success=[pb.RequestOp(request_range=pb.RangeRequest(key=key.encode())) for key in keys])
        try:
            answer = await self._endpoints.call(TXN, request)
        except RpcFailed as error:
            raise explain(error, self._endpoints.names) from error
        return [_item(kv) for response in answer.responses for kv in response.response_range.kvs]

    async def _beat(self, lease: int, timeout_s: float, trouble: dict[str, str]) -> int:
        """Raises LeaseLost; StoreUnavailable when another try may help."""
        member, metadata = await self._endpoints.member()
        try:
            ttl_s = await self._beats.beat(
                member, metadata, lease, min(timeout_s, self._settings.request_timeout_s / 2)
            )
        except RpcFailed as error:
            failure = judge(error)
            trouble[member.name] = brief(error)
            if failure is Failure.FINAL:
                raise explain(error, self._endpoints.names) from error
            if failure is Failure.LOGIN:
                await self._endpoints.renew_login(metadata)
            else:
                self._endpoints.leave(member)
            raise StoreUnavailable(brief(error)) from error
        except StoreUnavailable as error:
            trouble[member.name] = str(error)
            self._endpoints.leave(member)
            raise
        if ttl_s <= 0:
            raise LeaseLost(f"lease {lease:x} has ended")
        return ttl_s


def _item(kv: pb.KeyValue) -> KeyValue:
    key = kv.key.decode(errors="replace")
    return KeyValue(key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def _write(write: Write) -> pb.RequestOp:
    key = write.key.encode()
    if isinstance(write, Put):
        return pb.RequestOp(request_put=pb.PutRequest(key=key, value=write.value, lease=write.lease))
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))


def _compare(compare: Compare) -> pb.Compare:
    made = pb.Compare(key=compare.key.encode(), result=_RESULTS[compare.op])
    operand = compare.operand
    if isinstance(operand, bytes):
        made.target, made.value = pb.Compare.VALUE, operand
    elif compare.target is Target.VERSION:
        made.target, made.version = pb.Compare.VERSION, operand
    elif compare.target is Target.CREATE:
        made.target, made.create_revision = pb.Compare.CREATE, operand
    elif compare.target is Target.MOD:
        made.target, made.mod_revision = pb.Compare.MOD, operand
    else:
        made.target, made.lease = pb.Compare.LEASE, operand
    return made
