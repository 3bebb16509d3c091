"""The cluster's identity: written once, the same for all its cores and for ever."""

from __future__ import annotations

from eru.lib.world import World
from eru.model.errors import OutcomeUnknown, StoreError
from eru.store.contract import Put, Store, absent
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
