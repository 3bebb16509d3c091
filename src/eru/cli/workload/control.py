"""`eru workload start|stop|restart|suspend|resume|remove|dissociate`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import click

from eru.cli import names, resolve
from eru.cli.exits import Exit, Problem, explain, usage
from eru.cli.lazy import Verb, verb
from eru.cli.session import Session
from eru.cli.show.talk import counted
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

_DONE = {
    "start": "started",
    "stop": "stopped",
    "restart": "restarted",
    "suspend": "suspended",
    "resume": "resumed",
    "remove": "removed",
    "dissociate": "dissociated",
}

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _selection(body: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask when --app names many at once."),
        click.option("--entry", default="", shell_complete=names.entrypoints, help="With --app: only this entrypoint."),
        click.option("--app", default="", shell_complete=names.apps, help="All workloads of this app."),
        click.argument("ids", nargs=-1, shell_complete=names.workloads),
    ):
        body = option(body)
    return body


class Tally:
    """One answer per workload; silence is a failure too."""

    def __init__(self, session: Session, action: str, wanted: Sequence[str], named: dict[str, str]) -> None:
        self.session = session
        self.action = action
        self.named = named
        self.waiting = dict.fromkeys(wanted)
        self.done = 0
        self.codes: list[int] = []

    def label(self, id_: str) -> str:
        """Its name if we know it, and a short id."""
        name = self.named.get(id_, "")
        return f"{name} ({resolve.short(id_)})" if name else resolve.short(id_)

    def take(self, id_: str, error: str, hook: str) -> None:
        """Note one answer; a second one for the same workload is only told (hooks of a restart)."""
        talk = self.session.talk
        first = self.waiting.pop(id_, self) is not self
        if error:
            talk.bad(f"{self.label(id_)} was not {_DONE[self.action]}: {error}")
            if first:
                self.codes.append(Exit.ERROR)
        elif first:
            self.done += 1
            talk.good(f"{self.label(id_)} {_DONE[self.action]}")
        for line in hook.splitlines():
            talk.say(f"  hook: {line}")

    def finish(self, failure: RemoteError | None = None) -> int:
        """The exit code. A failed call with nothing done is raised as the problem it is."""
        if failure is not None and not self.done and not self.codes:
            raise explain(failure)
        if failure is not None:
            self.session.talk.bad(str(failure))
        for id_ in self.waiting:
            self.session.talk.bad(f"{self.label(id_)}: core gave no answer")
            self.codes.append(Exit.ERROR)
        if not self.codes:
            return Exit.OK
        return Exit.PARTLY if self.done else Exit.ERROR


async def _wanted(session: Session, values: dict[str, Any], action: str) -> tuple[list[str], dict[str, str]]:
    """(ids, id -> name) of what the user named."""
    words, app = values["ids"], values["app"]
    if not words and not app:
        raise usage(f"nothing to {action} is named", hint="give ids, prefixes, names, or --app APP")
    if values["entry"] and not app:
        raise usage("--entry needs --app")
    named: dict[str, str] = {}
    if app:
        target = f"{app}/{values['entry']}" if values["entry"] else app
        found = await resolve.Directory(session).of_app(target)
        if not found:
            await resolve.one(resolve.Directory(session), target)
        named = {each.id: each.name for each in found}
        _confirm(f"{action} all {counted(len(found), 'workload')} of {target}", values["yes"])
    if words:
        named |= {id_: name for id_, name in (await resolve.named(session, words)).items() if id_ not in named}
    return list(named), named


def _confirm(what: str, yes: bool) -> None:
    """Ask on a terminal; elsewhere insist on --yes."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise usage(f"refusing to {what} without being sure", hint="add --yes")
    if not click.confirm(f"{what[:1].upper()}{what[1:]}?", err=True):
        raise Problem("nothing was done", code=Exit.ERROR)


def _control(action: str, doc: str, examples: str) -> Verb:
    @verb(action, help=doc, examples=examples)
    @_selection
    @click.option("-f", "--force", is_flag=True, help="Go on even if a hook fails.")
    async def body(session: Session, force: bool, **values: Any) -> int:
        wanted, named = await _wanted(session, values, action)
        tally = Tally(session, action, wanted, named)
        try:
            async for answer in session.stream(
                rpc.ControlWorkload, pb.ControlWorkloadOptions(IDs=wanted, type=action, force=force)
            ):
                tally.take(answer.id, answer.error, answer.hook.decode("utf-8", "replace"))
        except RemoteError as error:
            return tally.finish(error)
        return tally.finish()

    return body


start = _control("start", "Start stopped workloads.", "eru workload start 3f2a\neru workload start --app shop")
stop = _control("stop", "Stop workloads; they keep what they were granted.", "eru workload stop 3f2a shop_web_aBcDeF")
restart = _control(
    "restart",
    "Stop and start workloads.",
    "eru workload restart --app shop --entry web --yes\neru workload restart 3f2a",
)
suspend = _control("suspend", "Freeze workloads where the engine can.", "eru workload suspend 3f2a")
resume = _control("resume", "Thaw frozen workloads.", "eru workload resume 3f2a")


@verb("remove", examples="eru workload remove 3f2a\neru workload remove --app shop --entry web --yes")
@_selection
@click.option("-f", "--force", is_flag=True, help="Remove even what still runs or whose hook fails.")
@click.option("-s", "--step", type=int, default=1, hidden=True)
async def remove(session: Session, force: bool, step: int, **values: Any) -> int:
    """Stop workloads, remove them, and give back what they were granted."""
    wanted, named = await _wanted(session, values, "remove")
    return await remove_ids(session, wanted, named, force=force)


async def remove_ids(session: Session, wanted: Sequence[str], named: dict[str, str], *, force: bool) -> int:
    """Remove these; one line each."""
    tally = Tally(session, "remove", wanted, named)
    running = False
    try:
        async for answer in session.stream(rpc.RemoveWorkload, pb.RemoveWorkloadOptions(IDs=wanted, force=force)):
            # a failed removal carries its reason where hooks' output goes
            error = "" if answer.success else answer.hook or "core gives no reason"
            running |= "force" in error
            tally.take(answer.id, error, answer.hook if answer.success else "")
    except RemoteError as error:
        return tally.finish(error)
    if running and not force:
        session.talk.next("the same with --force removes what still runs, too")
    return tally.finish()


@verb("dissociate", examples="eru workload dissociate 3f2a\neru workload dissociate --node web1")
@click.argument("ids", nargs=-1, shell_complete=names.workloads)
@click.option("--node", multiple=True, shell_complete=names.nodes, help="All workloads of this node; can be repeated.")
async def dissociate(session: Session, ids: tuple[str, ...], node: tuple[str, ...]) -> int:
    """Forget workloads and give back their grants, without touching what runs."""
    wanted = dict.fromkeys(await resolve.ids(session, ids) if ids else [], "")
    async for id_, name in _on_nodes(session, node):
        wanted[id_] = name
    if not wanted:
        raise usage("nothing to dissociate", hint="give ids, or --node with workloads on it")
    tally = Tally(session, "dissociate", list(wanted), wanted)
    try:
        async for answer in session.stream(rpc.DissociateWorkload, pb.DissociateWorkloadOptions(IDs=list(wanted))):
            tally.take(answer.id, answer.error, "")
    except RemoteError as error:
        return tally.finish(error)
    return tally.finish()


async def _on_nodes(session: Session, nodes: Sequence[str]) -> AsyncIterator[tuple[str, str]]:
    for node in nodes:
        async with names.naming(session, "node", node):
            answer = await session.unary(rpc.ListNodeWorkloads, pb.GetNodeOptions(nodename=node))
            if not answer.workloads:
                await session.unary(rpc.GetNode, pb.GetNodeOptions(nodename=node))
        for each in sorted(answer.workloads, key=lambda each: each.name):
            yield each.id, each.name
