"""The only writer of usage, workloads, their indexes and intents.

Each method is one guarded transaction (see `commit`): it compares that the
operation's registration still exists and that what it builds on has not
changed. An intent under `intent/<node>/<name>` is at the same time the lock on
that workload name: whoever wrote it is the only one to act on the workload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from eru.core import accounts
from eru.core.accounts import Kinds
from eru.core.commit import Change, Committer, Step
from eru.core.fleet import Fleet
from eru.core.session import Identity
from eru.lib.world import World
from eru.model.errors import Conflict, NoCapacity, NotFound
from eru.model.intents import Intent, Verb
from eru.model.names import parse_workload_name
from eru.model.nodes import Resources
from eru.model.workloads import Workload
from eru.store.contract import Compare, Delete, KeyValue, Put, Store, Write, absent, present, unchanged
from eru.store.keys import Keys

RESERVE_MAX = 60  # instances in one reservation, so that two still fit into one transaction


@dataclass(slots=True)
class Operation:
    """One call that changes workloads. `left_behind`: recovery has to look after it."""

    id: str
    verb: str
    identity: Identity
    left_behind: bool = False
    group: str = ""  # whose fate its new workloads share


@dataclass(frozen=True, slots=True)
class StoredWorkload:
    """A workload record and the revision it was last written at."""

    workload: Workload
    revision: int

    @property
    def id(self) -> str:
        return self.workload.id


@dataclass(frozen=True, slots=True)
class Held:
    """An intent as this operation wrote it."""

    key: str
    intent: Intent
    revision: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """One instance whose grant is part of its node's usage."""

    held: Held
    params: Resources

    @property
    def grant(self) -> Resources:
        return self.held.intent.grant


@dataclass(slots=True)
class Edit(Change):
    """A change whose compares and writes do not depend on the node's record."""

    identity: Identity
    compares: Sequence[Compare]
    writes: Sequence[Write]
    proofs: Sequence[str]
    verdict: Callable[[Mapping[str, KeyValue]], int]
    nodename: str = ""
    kinds: Kinds = field(default_factory=dict)
    add: Sequence[Resources] = ()
    subtract: Sequence[Resources] = ()
    fits: bool = False  # refuse when the usage would exceed the capacity
    revision: int = 0
    blocking: bool = False

    @property
    def ops(self) -> int:  # type: ignore[override]
        return max(len(self.compares), len(self.writes))

    def build(self, capacity: Resources, usage: Resources) -> Step:
        if not self.nodename:
            return Step(self.compares, self.writes)
        after = accounts.subtract(self.kinds, usage, self.subtract) if self.subtract else usage
        after = accounts.add(self.kinds, after, self.add) if self.add else after
        if self.fits and not accounts.within(after, capacity):
            raise NoCapacity(f"node {self.nodename} has given away what would have to be taken back")
        return Step(self.compares, self.writes, after)

    def proof_keys(self) -> list[str]:
        return list(self.proofs)

    def settled(self, found: Mapping[str, KeyValue]) -> int:
        return self.verdict(found)


@dataclass(slots=True)
class _Reserve(Change):
    """Grants for new instances on one node, decided on its newest record."""

    identity: Identity
    nodename: str
    kinds: Kinds
    requests: accounts.Requests
    intents: list[tuple[str, Intent]]
    fleet: Fleet
    if_revision: int = 0
    revision: int = 0
    blocking: bool = False
    tries: list[list[tuple[Resources, Resources]]] = field(default_factory=list)
    shares: list[tuple[Resources, Resources]] = field(default_factory=list)

    @property
    def ops(self) -> int:  # type: ignore[override]
        return len(self.intents)

    def build(self, capacity: Resources, usage: Resources) -> Step:
        found = self.fleet.view.by_name[self.nodename]
        if self.if_revision and (found.resource_revision > self.if_revision or found.usage is not usage):
            raise Conflict(f"node {self.nodename} has changed since revision {self.if_revision}; make a new plan")
        shares, after = accounts.allot(self.kinds, capacity, usage, self.requests, len(self.intents))
        self.tries.append(shares)
        self.shares = shares
        writes: list[Write] = []
        for (key, intent), (grant, _) in zip(self.intents, shares, strict=True):
            intent.grant = grant
            writes.append(Put(key, intent.encode()))
        return Step([absent(key) for key, _ in self.intents], writes, after, dict(self.intents))

    def proof_keys(self) -> list[str]:
        return [key for key, _ in self.intents]

    def settled(self, found: Mapping[str, KeyValue]) -> int:
        items = [found.get(key) for key, _ in self.intents]
        if all(item is None for item in items):
            return 0
        stored = [Intent.decode(item.value) for item in items if item is not None]
        mine = [intent for intent in stored if intent.op == self.intents[0][1].op]
        if len(mine) != len(self.intents):
            raise Conflict(f"a workload name that was chosen on node {self.nodename} is taken; try again")
        for shares in reversed(self.tries):
            if all(share[0] == intent.grant for share, intent in zip(shares, stored, strict=True)):
                self.shares = shares
                break
        for (_, intent), (grant, _) in zip(self.intents, self.shares, strict=True):
            intent.grant = grant
        return max(item.mod_revision for item in items if item is not None)


@dataclass(slots=True)
class _Reallot(Change):
    """New resources for one workload, decided on its node's newest record."""

    identity: Identity
    nodename: str
    kinds: Kinds
    stored: StoredWorkload
    deltas: Resources
    key: str
    intent: Intent
    workload_key: str
    after: Workload
    revision: int = 0
    ops: int = 2
    blocking: bool = False

    def build(self, capacity: Resources, usage: Resources) -> Step:
        old = self.stored.workload
        grant, params, used = accounts.reallot(self.kinds, capacity, usage, old.grant, self.deltas)
        self.after = msgspec.structs.replace(old, grant=grant, engine_params=params)
        return Step(
            [absent(self.key), unchanged(self.workload_key, self.stored.revision)],
            [Put(self.key, self.intent.encode()), Put(self.workload_key, self.after.encode())],
            used,
        )

    def proof_keys(self) -> list[str]:
        return [self.key, self.workload_key]

    def settled(self, found: Mapping[str, KeyValue]) -> int:
        revision = _taken_by(found, self.key, self.intent, self.workload_key, self.stored)
        if revision:
            self.after = Workload.decode(found[self.workload_key].value)
        return revision


class Ledger:
    """See the module. Every method raises what `Committer.commit` raises."""

    def __init__(
        self, world: World, store: Store, keys: Keys, kinds: Kinds, fleet: Fleet, committer: Committer
    ) -> None:
        self._world = world
        self._store = store
        self._keys = keys
        self._kinds = kinds
        self._fleet = fleet
        self._committer = committer
        self._blocking = any(kind.blocking for kind in kinds.values())

    # New workloads.

    async def reserve(
        self,
        op: Operation,
        podname: str,
        nodename: str,
        names: Sequence[str],
        requests: Mapping[str, Any],
        if_revision: int = 0,
    ) -> list[Reserved]:
        """Raise usage and leave intents for new instances (at most RESERVE_MAX) on one node.

        Raises NoCapacity when they do not all fit any more, Conflict when the
        node has changed after `if_revision` (0: it may).
        """
        intents = [
            (
                self._keys.intent(nodename, name),
                self._intent(op, Verb.DEPLOY, nodename, name, podname=podname, group=op.group),
            )
            for name in names
        ]
        change = _Reserve(
            op.identity, nodename, self._kinds, requests, intents, self._fleet, if_revision, blocking=self._blocking
        )
        revision = await self._committer.commit(change)
        return [
            Reserved(Held(key, intent, revision), params)
            for (key, intent), (_, params) in zip(intents, change.shares, strict=True)
        ]

    async def record(self, op: Operation, held: Held, workload: Workload) -> None:
        """The instance exists: workload and indexes in, intent out."""
        await self._committer.commit(self.recording(op, held, workload))

    def recording(self, op: Operation, held: Held, workload: Workload, *, keep: Intent | None = None) -> Change:
        """As `record`, to be committed by the caller, who wants to know what became of it even when it is cancelled.

        `keep`: takes the place of the intent.
        """
        key = self._keys.workload(workload.id)
        writes = [*self._workload_in(workload), Put(held.key, keep.encode()) if keep else Delete(held.key)]

        def verdict(found: Mapping[str, KeyValue]) -> int:
            if key in found:
                return found[key].mod_revision
            _still(found, held)
            return 0

        return Edit(op.identity, [unchanged(held.key, held.revision), absent(key)], writes, [key, held.key], verdict)

    async def release(self, op: Operation, held: Held) -> None:
        """The instance will not be: usage down (if the intent is counted), intent out."""
        await self._committer.commit(
            Edit(
                op.identity,
                [unchanged(held.key, held.revision)],
                [Delete(held.key)],
                [held.key],
                lambda found: _gone(found, held),
                held.intent.nodename if held.intent.counted else "",
                self._kinds,
                subtract=[held.intent.grant] if held.intent.counted else (),
                blocking=self._blocking,
            )
        )

    async def drop(self, op: Operation, held: Held) -> None:
        """The intent out, and nothing else."""
        await self._committer.commit(
            Edit(
                op.identity,
                [unchanged(held.key, held.revision)],
                [Delete(held.key)],
                [held.key],
                lambda found: _gone(found, held),
            )
        )

    # Existing workloads.

    async def take(self, op: Operation, stored: StoredWorkload, verb: Verb, **note: Any) -> Held:
        """Leave an intent on a workload: from now on only this operation acts on it.

        Raises Conflict while another operation does, or when the record has
        changed; NotFound when it is gone.
        """
        workload = stored.workload
        key, intent = self._intent_on(op, workload, verb, **note)
        workload_key = self._keys.workload(workload.id)
        change = Edit(
            op.identity,
            [absent(key), unchanged(workload_key, stored.revision)],
            [Put(key, intent.encode())],
            [key, workload_key],
            lambda found: _taken_by(found, key, intent, workload_key, stored),
        )
        return Held(key, intent, await self._committer.commit(change))

    async def amend(self, op: Operation, held: Held, **note: Any) -> Held:
        """Write the operation's own intent anew, with other details."""
        intent = msgspec.structs.replace(held.intent, op=op.id, owner=op.identity.id, **note)

        def verdict(found: Mapping[str, KeyValue]) -> int:
            item = found.get(held.key)
            if item is not None and item.value == intent.encode():
                return item.mod_revision
            _still(found, held)
            return 0

        change = Edit(
            op.identity,
            [unchanged(held.key, held.revision)],
            [Put(held.key, intent.encode())],
            [held.key],
            verdict,
        )
        return Held(held.key, intent, await self._committer.commit(change))

    async def claim(self, op: Operation, held: Held) -> Held:
        """Take over an intent whose owner is gone. Raises Conflict when its owner is back or it has changed."""
        owner = held.intent.owner
        intent = msgspec.structs.replace(held.intent, op=op.id, owner=op.identity.id)
        compares = [unchanged(held.key, held.revision)]
        if owner != op.identity.id:
            compares.append(absent(self._keys.core(owner)))

        def verdict(found: Mapping[str, KeyValue]) -> int:
            item = found.get(held.key)
            if item is not None and (mine := Intent.decode(item.value)).op == op.id and mine.owner == op.identity.id:
                return item.mod_revision
            _still(found, held)
            if owner != op.identity.id and self._keys.core(owner) in found:
                raise Conflict(f"core {owner} is alive")
            return 0

        proofs = [held.key, self._keys.core(owner)]
        change = Edit(op.identity, compares, [Put(held.key, intent.encode())], proofs, verdict)
        return Held(held.key, intent, await self._committer.commit(change))

    async def erase(self, op: Operation, held: Held, workload: Workload) -> None:
        """The workload is gone for good: record, indexes, status and intent out, usage down."""
        await self._committer.commit(
            Edit(
                op.identity,
                [unchanged(held.key, held.revision), present(self._keys.workload(workload.id))],
                [*self._workload_out(workload), Delete(held.key)],
                [held.key],
                lambda found: _gone(found, held),
                workload.nodename,
                self._kinds,
                subtract=[workload.grant],
                blocking=self._blocking,
            )
        )

    async def dissociate(self, op: Operation, stored: StoredWorkload) -> None:
        """Forget a workload that goes on running. Raises Conflict while another operation acts on it."""
        workload = stored.workload
        key = self._keys.workload(workload.id)
        intent_key = self._keys.intent(workload.nodename, workload.name)

        def verdict(found: Mapping[str, KeyValue]) -> int:
            if key not in found:
                return max((item.mod_revision for item in found.values()), default=1)
            if intent_key in found:
                raise _busy(Intent.decode(found[intent_key].value))
            if found[key].mod_revision != stored.revision:
                raise Conflict(f"workload {workload.id} was changed meanwhile; try again")
            return 0

        await self._committer.commit(
            Edit(
                op.identity,
                [unchanged(key, stored.revision), absent(intent_key)],
                self._workload_out(workload),
                [key, intent_key],
                verdict,
                workload.nodename,
                self._kinds,
                subtract=[workload.grant],
                blocking=self._blocking,
            )
        )

    async def swap(self, op: Operation, held: Held, old: StoredWorkload, new: Workload) -> Held:
        """The new workload takes the old one's place and grant; the intent now says: remove the old one."""
        intent = msgspec.structs.replace(
            held.intent, verb=Verb.REMOVE, id=old.id, force=True, successor="", counted=False
        )
        new_key, old_key = self._keys.workload(new.id), self._keys.workload(old.id)

        def verdict(found: Mapping[str, KeyValue]) -> int:
            if new_key in found:
                return found[new_key].mod_revision
            _still(found, held)
            if old_key not in found:
                raise NotFound(f"workload {old.id} is gone")
            return 0

        change = Edit(
            op.identity,
            [unchanged(held.key, held.revision), unchanged(old_key, old.revision), absent(new_key)],
            [*self._workload_in(new), *self._workload_out(old.workload), Put(held.key, intent.encode())],
            [new_key, old_key, held.key],
            verdict,
        )
        return Held(held.key, intent, await self._committer.commit(change))

    async def reallot(self, op: Operation, stored: StoredWorkload, deltas: Resources) -> tuple[Held, StoredWorkload]:
        """Change a workload's grant and its node's usage; the intent remembers the way back."""
        old = stored.workload
        key, intent = self._intent_on(op, old, Verb.REALLOC, grant=old.grant, params=old.engine_params)
        change = _Reallot(
            op.identity,
            old.nodename,
            self._kinds,
            stored,
            deltas,
            key,
            intent,
            self._keys.workload(old.id),
            old,
            blocking=self._blocking,
        )
        revision = await self._committer.commit(change)
        return Held(key, intent, revision), StoredWorkload(change.after, revision)

    async def restore(self, op: Operation, held: Held, now: StoredWorkload) -> tuple[Held, StoredWorkload]:
        """Take `reallot` back, if its node still has room; the intent stays, without a way back."""
        old = msgspec.structs.replace(now.workload, grant=held.intent.grant, engine_params=held.intent.params)
        intent = msgspec.structs.replace(held.intent, grant={}, params={})
        key = self._keys.workload(old.id)

        def verdict(found: Mapping[str, KeyValue]) -> int:
            item = found.get(held.key)
            if item is not None and item.value == intent.encode():
                return item.mod_revision
            _still(found, held)
            return 0

        change = Edit(
            op.identity,
            [unchanged(held.key, held.revision), unchanged(key, now.revision)],
            [Put(held.key, intent.encode()), Put(key, old.encode())],
            [held.key, key],
            verdict,
            old.nodename,
            self._kinds,
            add=[old.grant],
            subtract=[now.workload.grant],
            fits=True,
            blocking=self._blocking,
        )
        revision = await self._committer.commit(change)
        return Held(held.key, intent, revision), StoredWorkload(old, revision)

    # Parts.

    def _intent(self, op: Operation, verb: Verb, nodename: str, name: str, **note: Any) -> Intent:
        return Intent(
            op=op.id,
            verb=verb,
            owner=op.identity.id,
            nodename=nodename,
            name=name,
            created_at=self._world.clock.now(),
            **note,
        )

    def _intent_on(self, op: Operation, workload: Workload, verb: Verb, **note: Any) -> tuple[str, Intent]:
        key = self._keys.intent(workload.nodename, workload.name)
        intent = self._intent(
            op, verb, workload.nodename, workload.name, podname=workload.podname, id=workload.id, counted=False, **note
        )
        return key, intent

    def _workload_in(self, workload: Workload) -> list[Write]:
        app, entrypoint, _ = parse_workload_name(workload.name)
        keys, node, id = self._keys, workload.nodename, workload.id
        return [
            Put(keys.workload(id), workload.encode()),
            Put(keys.on_node(node, id), f"{app}/{entrypoint}/{workload.name}".encode()),
            Put(keys.of_app(app, entrypoint, node, id), b""),
        ]

    def _workload_out(self, workload: Workload) -> list[Write]:
        app, entrypoint, _ = parse_workload_name(workload.name)
        keys, node, id = self._keys, workload.nodename, workload.id
        return [
            Delete(keys.workload(id)),
            Delete(keys.on_node(node, id)),
            Delete(keys.of_app(app, entrypoint, node, id)),
            Delete(keys.status(app, entrypoint, node, id)),
        ]


def _still(found: Mapping[str, KeyValue], held: Held) -> None:
    """Raise Conflict unless the intent is as this operation wrote it."""
    item = found.get(held.key)
    if item is None or item.mod_revision != held.revision:
        raise Conflict(f"another core took over what was being done with {held.intent.name} on {held.intent.nodename}")


def _gone(found: Mapping[str, KeyValue], held: Held) -> int:
    if held.key not in found:
        return max((item.mod_revision for item in found.values()), default=1)
    _still(found, held)
    return 0


def _busy(intent: Intent) -> Conflict:
    return Conflict(
        f"workload {intent.name} on node {intent.nodename} is busy: {intent.verb.value} is under way; try again"
    )


def _taken_by(
    found: Mapping[str, KeyValue], key: str, intent: Intent, workload_key: str, stored: StoredWorkload
) -> int:
    item = found.get(key)
    if item is not None:
        there = Intent.decode(item.value)
        if there.op == intent.op:
            return item.mod_revision
        raise _busy(there)
    workload = found.get(workload_key)
    if workload is None:
        raise NotFound(f"workload {stored.id!r} does not exist any more")
    if workload.mod_revision != stored.revision:
        raise Conflict(f"workload {stored.id} was changed meanwhile; try again")
    return 0
