"""Which workloads a verb works on, and the question before many are changed at once.

Words name one workload each: an id, a prefix of one, or a name. Selectors
(`--app`, `--entry`, `--node`, `--label`) name all that fit every selector
given. What was picked by a selector is never changed without a yes: typed on
a terminal, `--yes` elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from eru.cli import names, resolve
from eru.cli.exits import Exit, Problem, not_found, usage
from eru.cli.parse import pairs
from eru.cli.session import Session
from eru.cli.show.ask import ask, sure
from eru.cli.show.document import as_data
from eru.cli.show.table import render
from eru.cli.show.talk import counted
from eru.cli.suggest import did_you_mean
from eru.cli.workload.fetch import fetched
from eru.cli.workload.health import state_of
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

Body = Callable[..., Any]

LISTED_MAX = 10  # workloads shown before a question


def selectors(body: Body) -> Body:
    """The argument `ids` and the options `app`, `entry`, `node`, `label`."""
    return click.argument("ids", nargs=-1, shell_complete=names.workloads)(selector_options(body))


def selector_options(body: Body) -> Body:
    """The options `app`, `entry`, `node`, `label`."""
    for option in (
        click.option("--label", multiple=True, metavar="KEY=VALUE", help="All with this label; can be repeated."),
        click.option("--node", multiple=True, shell_complete=names.nodes, help="All of this node; can be repeated."),
        click.option("--entry", default="", shell_complete=names.entrypoints, help="All of this entrypoint."),
        click.option("--app", default="", shell_complete=names.apps, help="All workloads of this app."),
    ):
        body = option(body)
    return body


def asking(body: Body) -> Body:
    """The options `yes` and `dry_run` of verbs that change something."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Only tell what would be done."),
        click.option("--yes", is_flag=True, help="Do not ask, whatever the selectors pick."),
    ):
        body = option(body)
    return body


@dataclass(frozen=True)
class Chosen:
    """The workloads of one command, by id, in the order in which they are worked on.

    Of a workload that was given as a full id only the id is known.
    """

    found: dict[str, pb.Workload]
    picked: bool = False  # by a selector, not one by one
    of: str = ""  # the selectors in words: `app shop, node n1`

    @property
    def ids(self) -> list[str]:
        return list(self.found)

    @property
    def named(self) -> dict[str, str]:
        """Id -> name, "" where unknown."""
        return {id_: each.name for id_, each in self.found.items()}

    @property
    def app(self) -> str:
        """The app they all belong to, or ""."""
        apps = {each.name.rsplit("_", 2)[0] for each in self.found.values()}
        return apps.pop() if len(apps) == 1 else ""


def label(session: Session, id_: str, name: str) -> str:
    """Its name if we know it, and its id."""
    told = resolve.told_id(session, id_)
    return f"{name} ({told})" if name else told


async def chosen(session: Session, values: Mapping[str, Any], action: str) -> Chosen:
    """What the words and selectors in `values` (see `selectors`) mean. Raises Problem, also when it is nothing."""
    words: Sequence[str] = values["ids"]
    wanted = _Wanted(values["app"], values["entry"], tuple(values["node"]), pairs("--label", values["label"]))
    if not words and not wanted:
        raise usage(f"nothing to {action} is named", hint="give ids, prefixes, names, or --app APP")
    found: dict[str, pb.Workload] = {}
    if wanted:
        found = {each.id: each for each in await _matching(session, wanted)}
        if not found:
            raise await _nothing(session, wanted)
    if words:
        found = await resolve.found(session, words) | found
    return Chosen(found, picked=bool(wanted), of=str(wanted))


async def meant(session: Session, words: Sequence[str], values: Mapping[str, Any], action: str) -> list[pb.Workload]:
    """For verbs that change nothing: words may be an app or `app/entry`, too, and mean all its instances."""
    found = {each.id: each for each in await resolve.group(session, words)}
    chosen_by = {key: values[key] for key in ("app", "entry", "node", "label")}
    if any(chosen_by.values()) or not words:
        found |= (await chosen(session, {**chosen_by, "ids": ()}, action)).found
    return list(found.values())


@dataclass(frozen=True)
class _Wanted:
    app: str
    entry: str
    nodes: tuple[str, ...]
    labels: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.app or self.entry or self.nodes or self.labels)

    def __str__(self) -> str:
        parts = [f"app {self.app}" if self.app else "", f"entrypoint {self.entry}" if self.entry else ""]
        parts += [f"node {node}" for node in self.nodes]
        parts += [f"label {key}={value}" for key, value in self.labels.items()]
        return ", ".join(part for part in parts if part)

    def fits(self, workload: pb.Workload) -> bool:
        parts = [*workload.name.rsplit("_", 2), "", ""]
        return self.app in ("", parts[0]) and self.entry in ("", parts[1])


async def _matching(session: Session, wanted: _Wanted) -> list[pb.Workload]:
    """By name. Nodes are asked one by one, because a core may ignore the node of a request without an entrypoint."""
    found: list[pb.Workload] = []
    for node in dict.fromkeys(wanted.nodes):
        async with names.naming(session, "node", node):
            asked = pb.GetNodeOptions(nodename=node, labels=wanted.labels)
            answer = await session.unary(rpc.ListNodeWorkloads, asked)
            if not answer.workloads:
                await session.unary(rpc.GetNode, pb.GetNodeOptions(nodename=node))
        found += answer.workloads
    if not wanted.nodes:
        found = await session.collect(
            rpc.ListWorkloads, pb.ListWorkloadsOptions(appname=wanted.app, labels=wanted.labels)
        )
    return sorted((each for each in found if wanted.fits(each)), key=lambda each: (each.name, each.id))


async def _nothing(session: Session, wanted: _Wanted) -> Problem:
    """Nothing fits: an app or entrypoint that is not there, or really nothing."""
    if wanted.app and wanted.app not in (apps := await names.known(session, "app")):
        return not_found(f"there is no app {wanted.app!r}", hint=did_you_mean(wanted.app, apps) or _shows(apps))
    if wanted.entry and wanted.entry not in (entries := await names.known(session, "entrypoint")):
        hint = did_you_mean(wanted.entry, entries) or f"there are {', '.join(entries[:LISTED_MAX])}"
        return not_found(f"no workload has the entrypoint {wanted.entry!r}", hint=hint if entries else _shows(entries))
    return not_found(f"no workload fits {wanted}", hint="`eru workload list` shows what there is")


def _shows(known: Sequence[str]) -> str:
    return "`eru workload list` shows what there is" if known else "nothing is deployed yet"


# -- asking


def is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(session: Session, action: str, picked: Chosen, *, yes: bool, final: bool = False) -> None:
    """Have the user say that all these are meant; raises Problem if not. One workload needs no question.

    `final`: what is done cannot be undone, so that several named one by one are
    asked about, too, when there is a terminal.
    """
    count = len(picked.found)
    if yes or count < 2:
        return
    what = f"{action} {counted(count, 'workload')}{f' of {picked.of}' if picked.of else ''}"
    if not is_terminal():
        if not picked.picked:
            return
        why = [label(session, id_, name) for id_, name in list(picked.named.items())[:LISTED_MAX]]
        more = count - LISTED_MAX
        raise usage(
            f"refusing to {what} without being sure",
            why=[*why, *([f"and {more} more"] if more > 0 else [])],
            hint="add --yes; --dry-run shows what would be done",
        )
    if not picked.picked and not (final and not session.settings.published):
        return
    session.banner()
    for line in listing(picked, LISTED_MAX).splitlines():
        session.talk.say(line)
    what = f"{what[:1].upper()}{what[1:]}{session.where}"
    if not picked.picked:
        if not sure(f"{what}?"):
            raise _declined()
        return
    word = picked.app or str(count)
    answer = ask(f"{what}? Type {word} to go on")
    if answer.strip() != word:
        raise _declined()


def _declined() -> Problem:
    return Problem(
        "nothing was done", code=Exit.ERROR, hint="to be sure before it asks, --dry-run shows what it would do"
    )


def listing(picked: Chosen, most: int | None = None) -> str:
    """A table of what was chosen."""
    rows = [
        [[each.name], [resolve.short(each.id)], [each.nodename], [state_of(each.status) if each.name else ""]]
        for each in list(picked.found.values())[:most]
    ]
    more = len(picked.found) - len(rows)
    return render(["NAME", "ID", "NODE", "STATE"], rows) + (f"and {more} more\n" if more else "")


async def whole(session: Session, picked: Chosen) -> Chosen:
    """The same with everything known of each. Raises Problem if one is not there."""
    unknown = [id_ for id_, each in picked.found.items() if not each.name]
    if not unknown:
        return picked
    known = {each.id: each for each in await fetched(session, unknown)}
    return Chosen({id_: known.get(id_, each) for id_, each in picked.found.items()}, picked.picked, picked.of)


async def plan(session: Session, picked: Chosen, sentence: str) -> int:
    """`--dry-run`: the workloads, and what would happen to them."""
    picked = await whole(session, picked)
    session.show([as_data(each) for each in picked.found.values()], lambda: listing(picked), picked.ids)
    session.talk.say(f"{counted(len(picked.found), 'workload')} would {sentence}; nothing was changed")
    return Exit.OK
