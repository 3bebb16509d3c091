"""What a store must offer. The semantics are etcd v3's; `store.conformance` checks them.

One revision counter for the whole store: every transaction that changes
anything raises it by one, and all its changes carry that revision.

Keys are `str` that sort by their UTF-8 bytes; values are bytes. Every call is
bounded in time by the backend's own request timeout and raises
`StoreUnavailable` (nothing happened) or `OutcomeUnknown` (transactions only:
sent, and the answer got lost).
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

TXN_OPS_MAX = 128  # compares, or writes, in one transaction (etcd's default limit)
VALUE_BYTES_MAX = 1_000_000  # etcd's default request limit is 1.5 MiB
TXN_BYTES_MAX = 1_400_000  # keys and values together in one transaction, for the same reason
PAGE_ITEMS = 5_000  # default page of a range read


class KeyValue(msgspec.Struct, frozen=True):
    """A key as it is at some revision. `lease` 0: none."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


class Page(msgspec.Struct, frozen=True):
    """Part of a range, in key order, read at `revision`; `more`: ask again after the last key."""

    items: list[KeyValue]
    revision: int
    more: bool


class Target(enum.Enum):
    """What a compare looks at.

    A key that does not exist has 0 in all of them but VALUE: a compare of the
    value of a key that does not exist never holds, whatever the operator.
    """

    VERSION = "version"
    CREATE = "create"
    MOD = "mod"
    VALUE = "value"
    LEASE = "lease"


class Op(enum.Enum):
    """How a compare judges."""

    EQUAL = "="
    GREATER = ">"
    LESS = "<"
    NOT_EQUAL = "!="


class Compare(msgspec.Struct, frozen=True):
    """A condition on one key."""

    key: str
    target: Target
    op: Op
    operand: int | bytes


def absent(key: str) -> Compare:
    """The key does not exist."""
    return Compare(key, Target.CREATE, Op.EQUAL, 0)


def present(key: str) -> Compare:
    """The key exists."""
    return Compare(key, Target.CREATE, Op.GREATER, 0)


def unchanged(key: str, mod_revision: int) -> Compare:
    """The key was last changed at `mod_revision` (0: does not exist)."""
    return Compare(key, Target.MOD, Op.EQUAL, mod_revision)


class Put(msgspec.Struct, frozen=True):
    """Write a key, attached to `lease` if not 0."""

    key: str
    value: bytes
    lease: int = 0


class Delete(msgspec.Struct, frozen=True):
    """Remove one key; no error when it is not there."""

    key: str


Write = Put | Delete


class TxnResult(msgspec.Struct, frozen=True):
    """`revision` is the store's revision after the transaction."""

    succeeded: bool
    revision: int


class Change(enum.Enum):
    """What happened to a key."""

    PUT = "put"
    DELETE = "delete"


class Event(msgspec.Struct, frozen=True):
    """One change. For DELETE the value is empty and `mod_revision` is that of the deletion."""

    change: Change
    item: KeyValue


class WatchBatch(msgspec.Struct, frozen=True):
    """All changes of one or more whole revisions, in order, up to `revision`.

    Empty `events`: nothing new under the prefix up to `revision` (progress).
    """

    revision: int
    events: list[Event] = msgspec.field(default_factory=list)


class Watch(Protocol):
    """An open watch: `async for batch in watch`, gap-free from the asked revision.

    The backend reconnects by itself and resumes without gap or repeat.
    Iteration raises `Compacted` when that is impossible, `StoreUnavailable`
    after the backend gave up. `close` ends the iteration.
    """

    def __aiter__(self) -> AsyncIterator[WatchBatch]: ...

    async def request_progress(self) -> None:
        """Make a batch (possibly without events) with the store's current revision arrive soon."""

    async def close(self) -> None: ...


class Store(Protocol):
    """The nine verbs."""

    async def get(self, key: str) -> KeyValue | None:
        """The newest committed value (linearizable)."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, KeyValue]:
        """Those of `keys` that exist. Consistent within each TXN_OPS_MAX keys."""

    async def range(
        self,
        prefix: str,
        *,
        after: str = "",
        limit: int = PAGE_ITEMS,
        revision: int = 0,
        keys_only: bool = False,
    ) -> Page:
        """Keys under `prefix` that sort after `after`, at `revision` (0: now).

        Pass the first page's revision on to read a whole range consistently.
        """

    async def txn(self, compares: Sequence[Compare], writes: Sequence[Write]) -> TxnResult:
        """All `writes` if all `compares` hold, else nothing.

        A key may be written once per transaction. More than TXN_OPS_MAX of
        either, or more than TXN_BYTES_MAX, is a ValueError. Putting under an ended lease raises LeaseLost.
        """

    async def grant(self, ttl_s: int) -> int:
        """A new lease's id (never 0). Its keys vanish `ttl_s` after the last keep-alive."""

    async def keep_alive(self, lease: int) -> int:
        """Renew once; the TTL in seconds. Raises LeaseLost."""

    async def revoke(self, lease: int) -> None:
        """End a lease and delete its keys; no error when it has already ended."""

    async def watch(self, prefix: str, from_revision: int) -> Watch:
        """Changes under `prefix` from `from_revision` on, inclusive."""

    async def close(self) -> None:
        """Release connections and files. Leases go on until they expire."""


async def range_all(store: Store, prefix: str, *, keys_only: bool = False) -> tuple[list[KeyValue], int]:
    """A whole range, page by page, at one revision; and that revision."""
    items: list[KeyValue] = []
    page = await store.range(prefix, keys_only=keys_only)
    revision = page.revision
    items.extend(page.items)
    while page.more:
        page = await store.range(prefix, after=items[-1].key, revision=revision, keys_only=keys_only)
        items.extend(page.items)
    return items, revision
