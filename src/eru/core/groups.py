"""One fate for all instances of a deploy that is all or nothing, whoever dies in between.

`group/<op>` is written before anything is reserved, and the intents of all
instances name it. When all of them run, each intent takes up the record that
its instance will have; then one transaction turns the group from open to
committed. Whoever settles such an intent asks the group: committed, the record
is written; open, the group is deleted first, so that it cannot be committed
any more; gone, the instance is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eru.core.ledger import Edit, Operation
from eru.core.parts import Parts
from eru.model.errors import Conflict
from eru.model.intents import Group
from eru.store.contract import Delete, KeyValue, Put, absent, unchanged

_TRIES = 8  # races against the group's own core


@dataclass(slots=True)
class Fate:
    """This operation's own group."""

    key: str
    revision: int


async def open_group(core: Parts, op: Operation) -> Fate:
    """Before anything is reserved. From now on the operation's intents belong to the group."""
    key = core.keys.group(op.id)
    group = Group(op=op.id, owner=op.identity.id, created_at=core.world.clock.now())

    def verdict(found: Mapping[str, KeyValue]) -> int:
        return found[key].mod_revision if key in found else 0

    revision = await core.committer.commit(Edit(op.identity, [absent(key)], [Put(key, group.encode())], [key], verdict))
    op.group = op.id
    return Fate(key, revision)


async def commit_group(core: Parts, op: Operation, fate: Fate) -> None:
    """All of its instances are to be. Raises OutcomeUnknown; after any other error they are not to be."""
    group = Group(op=op.id, owner=op.identity.id, committed=True, created_at=core.world.clock.now())

    def verdict(found: Mapping[str, KeyValue]) -> int:
        item = found.get(fate.key)
        if item is None:
            raise Conflict("what this deploy had made was taken back by another core")
        return item.mod_revision if Group.decode(item.value).committed else 0

    compares, writes = [unchanged(fate.key, fate.revision)], [Put(fate.key, group.encode())]
    fate.revision = await core.committer.commit(Edit(op.identity, compares, writes, [fate.key], verdict))


async def forget_group(core: Parts, key: str, revision: int) -> bool:
    """Delete it as it was at that revision; False when it has changed meanwhile."""
    result = await core.store.txn([unchanged(key, revision)], [Delete(key)])
    if result.succeeded:
        core.fleet.committed(result.revision, [Delete(key)])
    return result.succeeded


async def is_committed(core: Parts, id: str) -> bool:
    """What becomes of the instances of a group whose operation has ended; an open one is closed by the question."""
    key = core.keys.group(id)
    for _ in range(_TRIES):
        item = await core.store.get(key)
        if item is None:
            return False
        if Group.decode(item.value).committed:
            return True
        if await forget_group(core, key, item.mod_revision):
            return False
    raise Conflict(f"group {id} changes all the time; try again")


async def sweep_groups(core: Parts) -> None:
    """Delete the groups of operations that have ended and of which no intent is left."""
    ended = [
        (key, id)
        for key, (id, owner) in core.fleet.view.groups.items()
        if id not in core.active and (owner == core.session.id or owner not in core.fleet.view.cores)
    ]
    if not ended:
        return
    await core.fleet.fresh()
    used = {found.intent.group for found in core.fleet.view.intents.values()}
    for key, id in ended:
        if id in used or id in core.active or key not in core.fleet.view.groups:
            continue
        item = await core.store.get(key)
        if item is None:
            continue
        group = Group.decode(item.value)
        if group.owner != core.session.id and await core.store.get(core.keys.core(group.owner)) is not None:
            continue
        await forget_group(core, key, item.mod_revision)
