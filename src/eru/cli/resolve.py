"""Which workloads a user means: full ids, prefixes of ids, names, `app` or `app/entry`.

Core knows only full ids; the rest is resolved here. A word that fits several
workloads is an error that lists them, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from eru.cli.exits import not_found, usage
from eru.cli.session import Session
from eru.cli.suggest import did_you_mean
from eru.model.errors import InvalidInput
from eru.model.names import check_entrypoint, check_name
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

FULL_ID_LENGTH = 64
CANDIDATES_SHOWN_MAX = 8
WORD_SHOWN_MAX = 128  # characters of a wrong word
_FULL_ID = re.compile(r"[0-9A-Za-z]{64}")


def short(id_: str) -> str:
    """Enough of an id for people; long ones are cut, as Docker does."""
    return id_[:12] if len(id_) == FULL_ID_LENGTH else id_


def told_id(session: Session, id_: str) -> str:
    """An id in what a command reports: whole where scripts of the published program look for it."""
    return id_ if session.settings.published else short(id_)


def is_full_id(word: str) -> bool:
    """Whether core would know the word as it is."""
    return _FULL_ID.fullmatch(word) is not None


@dataclass
class Directory:
    """All workloads, listed once per command."""

    session: Session
    found: list[pb.Workload] | None = None

    async def all(self) -> list[pb.Workload]:
        if self.found is None:
            self.found = await self.session.collect(rpc.ListWorkloads, pb.ListWorkloadsOptions())
            self.found.sort(key=lambda each: (each.name, each.id))
        return self.found

    async def matching(self, word: str) -> list[pb.Workload]:
        """Workloads with this id or name, or else a prefix of one."""
        everyone = await self.all()
        exact = [each for each in everyone if word in (each.id, each.name)]
        if exact:
            return exact
        return [each for each in everyone if each.id.startswith(word) or each.name.startswith(word)]

    async def of_app(self, word: str) -> list[pb.Workload]:
        """Workloads of `app` or `app/entry`, sorted. Only they are asked for: there may be many others."""
        app, _, entry = word.partition("/")
        if self.found is None and _may_be_app(app, entry):
            asked = pb.ListWorkloadsOptions(appname=app, entrypoint=entry)
            listed = await self.session.collect(rpc.ListWorkloads, asked)
            listed.sort(key=lambda each: (each.name, each.id))
        else:
            listed = await self.all()
        return [each for each in listed if belongs(each.name, app, entry)]


def _may_be_app(app: str, entry: str) -> bool:
    """Whether core would take these for names."""
    try:
        check_name("app", app)
        return not entry or bool(check_entrypoint(entry))
    except InvalidInput:
        return False


def belongs(name: str, app: str, entry: str = "") -> bool:
    """Whether a workload's name is of this app, and of this entrypoint if one is given."""
    parts = name.rsplit("_", 2)
    return len(parts) == 3 and parts[0] == app and (not entry or parts[1] == entry)


async def ids(session: Session, words: Sequence[str]) -> list[str]:
    """Full ids in the order of the words, without repeats. Raises Problem."""
    return list(await named(session, words))


async def named(session: Session, words: Sequence[str]) -> dict[str, str]:
    """Full id -> name in the order of the words; the name of what was given as a full id is "". Raises Problem."""
    return {id_: each.name for id_, each in (await found(session, words)).items()}


async def found(session: Session, words: Sequence[str]) -> dict[str, pb.Workload]:
    """Id -> workload in the order of the words; of what was given as a full id only the id is set. Raises Problem."""
    directory = Directory(session)
    out: dict[str, pb.Workload] = {}
    for word in words:
        meant = pb.Workload(id=word) if is_full_id(word) else await one(directory, word)
        out.setdefault(meant.id, meant)
    if not out:
        raise usage("no workload is named", hint="give ids, prefixes of ids, or names; `eru workload list` shows them")
    return out


async def one(directory: Directory, word: str) -> pb.Workload:
    """The only workload that a word fits."""
    found = await directory.matching(word) or (await directory.of_app(word) if "/" in word else [])
    if len(found) == 1:
        return found[0]
    if found:
        hint = "give more of the id or name"
        if all(belongs(each.name, word) for each in found):
            hint += f"; --app {word} means all of them"
        raise usage(f"{shown(word)} fits {len(found)} workloads", why=_listed(found), hint=hint)
    raise await _absent(directory, word)


async def group(session: Session, words: Sequence[str]) -> list[pb.Workload]:
    """Workloads of words that may also be an app or `app/entry` (all its instances)."""
    directory = Directory(session)
    out: dict[str, pb.Workload] = {}
    for word in words:
        if is_full_id(word):
            out[word] = pb.Workload(id=word)
            continue
        for each in await directory.of_app(word) or [await one(directory, word)]:
            out[each.id] = each
    return list(out.values())


def _listed(found: Sequence[pb.Workload]) -> list[str]:
    lines = [f"{short(each.id)}  {each.name} on {each.nodename}" for each in found[:CANDIDATES_SHOWN_MAX]]
    more = len(found) - CANDIDATES_SHOWN_MAX
    return [*lines, *([f"and {more} more"] if more > 0 else [])]


async def _absent(directory: Directory, word: str) -> Exception:
    everyone = await directory.all()
    apps = {each.name.rsplit("_", 2)[0] for each in everyone}
    hint = did_you_mean(word, [*apps, *(each.name for each in everyone)])
    if not hint:
        hint = "`eru workload list` shows what there is" if everyone else "nothing is deployed yet"
    return not_found(f"there is no workload {shown(word)}", hint=hint)


def shown(word: str) -> str:
    """A word in quotes; of one that cannot be a name only the beginning."""
    return repr(word) if len(word) <= WORD_SHOWN_MAX else f"{word[:WORD_SHOWN_MAX]!r}... ({len(word)} characters)"
