"""Who is who in the store: the cluster's identity, and registrations that cannot be alive."""

from __future__ import annotations

from eru.lib.world import World
from eru.model.errors import OutcomeUnknown, Refused, StoreError
from eru.store.contract import Delete, Put, Store, absent, range_all
from eru.store.keys import Keys

_DIGITS = 64  # as long as the published form, a SHA-256 in hexadecimal
_TRIES_MAX = 5


async def cluster_identity(store: Store, keys: Keys, world: World) -> str:
    """Label eru.coreid of what this cluster makes. Raises StoreError."""
    for _ in range(_TRIES_MAX):
        found = await store.get(keys.cluster_id)
        if found is not None:
            return found.value.decode()
        try:
            await store.txn([absent(keys.cluster_id)], [Put(keys.cluster_id, world.hex(_DIGITS).encode())])
        except OutcomeUnknown:
            continue  # the next look tells
    raise StoreError("the cluster's identity can neither be read nor written; is the store healthy?")


async def check_layout(store: Store, keys: Keys) -> None:
    """Refuse a prefix that a published core keeps its facts under: each would misread what the other writes.

    Raises Refused, StoreError.
    """
    found = await store.range(keys.published_pods, limit=1, keys_only=True)
    if found.items:
        raise Refused(
            f"etcd.prefix {keys.root} holds the data of a published core ({found.items[0].key}), which has another "
            f"layout; choose another prefix (docs/operations.md tells how to move)"
        )


async def forget_cores(store: Store, keys: Keys) -> int:
    """Remove all registrations; how many there were.

    Only for a store that one process has to itself: whoever registered before
    is dead, and what it left behind need not wait for its lease to end.
    """
    items, _ = await range_all(store, keys.cores, keys_only=True)
    for item in items:
        await store.txn([], [Delete(item.key)])
    return len(items)
