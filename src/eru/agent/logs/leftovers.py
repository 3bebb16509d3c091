"""Spools of forwards that are not configured any more: their records go to the forwards that are.

A receiver that has moved to another address is a removed forward and a new
one; what waited for it must not wait for ever. Each record goes where its
workload's records go now, before anything new does.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec
import structlog

from eru.agent.logs.spool import Spool

CHUNK = 1 << 20  # bytes moved at a time
UNBOUNDED = 1 << 62  # nothing is added to a spool that is only emptied
_ID = re.compile(rb'\{"id":"([^"]*)"')

_log = structlog.get_logger(__name__)


class Heir(msgspec.Struct, frozen=True):
    """A place for records. `spool` None: its share is discarded. `syslog`: also takes finished syslog lines."""

    spool: Spool | None
    syslog: bool = False


class Moved(msgspec.Struct):
    """Records of one removed spool."""

    moved: int = 0
    dropped: int = 0


def settle(spools: Path, kept: set[str], heirs: Sequence[Heir], choose: Callable[[str], int]) -> Moved:
    """Empty and remove every directory below `spools` that is not in `kept`. May take seconds: run it in a thread.

    `choose`: workload id -> index of the heir that takes its records.
    Records that do not fit, or whose forward discards, are dropped and counted.
    A process that ends in the middle goes on at its next start, with at most one chunk twice.
    """
    total, choose = Moved(), lru_cache(maxsize=1024)(choose)
    if not spools.is_dir():
        return total
    for place in sorted(spools.iterdir()):
        if place.name in kept or not place.is_dir():
            continue
        done = _empty(place, heirs, choose)
        shutil.rmtree(place, ignore_errors=True)
        total.moved += done.moved
        total.dropped += done.dropped
        if done.moved or done.dropped:
            say = _log.warning if done.dropped else _log.info
            say("records that waited for a removed forward are settled", spool=place.name, moved=done.moved,
                dropped=done.dropped)  # fmt: skip
    return total


def _empty(place: Path, heirs: Sequence[Heir], choose: Callable[[str], int]) -> Moved:
    old, done = Spool(place, UNBOUNDED), Moved()
    try:
        while chunk := old.read(CHUNK):
            shares: dict[int, list[bytes]] = {}
            for record in chunk.splitlines(keepends=True):
                shares.setdefault(_heir_of(record, heirs, choose), []).append(record)
            for index, records in shares.items():
                spool = heirs[index].spool if index >= 0 else None
                if spool is not None and spool.append(b"".join(records)):
                    done.moved += len(records)
                else:
                    done.dropped += len(records)
            old.advance(len(chunk))
    finally:
        old.close()
    return done


def _heir_of(record: bytes, heirs: Sequence[Heir], choose: Callable[[str], int]) -> int:
    """Index of the forward that takes this record now; -1: none can."""
    found = _ID.match(record)
    if found is None:
        return next((index for index, heir in enumerate(heirs) if heir.syslog), -1)
    return choose(found[1].decode()) if heirs else -1
