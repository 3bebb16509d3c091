"""How one revision is kept in the file: what each key became, and what it was before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from eru.store import rules
from eru.store.contract import Change, Event, KeyValue
from eru.store.feed import Revision


class Before(NamedTuple):
    """What a key was before a change."""

    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


class Logged(NamedTuple):
    """One change; `value` None: the key was deleted. `before` None: it did not exist."""

    key: str
    value: bytes | None
    create_revision: int
    version: int
    lease: int
    before: Before | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Logged])


def pack(events: Sequence[Event], olds: Sequence[KeyValue | None]) -> bytes:
    """The stored form of a revision."""
    return _encoder.encode([_logged(event, old) for event, old in zip(events, olds, strict=True)])


def _logged(event: Event, old: KeyValue | None) -> Logged:
    item = event.item
    before = Before(old.value, old.create_revision, old.mod_revision, old.version, old.lease) if old else None
    value = item.value if event.change is Change.PUT else None
    return Logged(item.key, value, item.create_revision, item.version, item.lease, before)


def unpack(revision: int, changes: bytes) -> Revision:
    """The events of a stored revision, and what their keys were before."""
    logged = _decoder.decode(changes)
    return Revision(
        revision,
        tuple(_event(change, revision) for change in logged),
        tuple(_before(change) for change in logged),
    )


def _event(change: Logged, revision: int) -> Event:
    if change.value is None:
        return Event(Change.DELETE, rules.tombstone(change.key, revision))
    item = KeyValue(change.key, change.value, change.create_revision, revision, change.version, change.lease)
    return Event(Change.PUT, item)


def _before(change: Logged) -> KeyValue | None:
    old = change.before
    if old is None:
        return None
    return KeyValue(change.key, old.value, old.create_revision, old.mod_revision, old.version, old.lease)
