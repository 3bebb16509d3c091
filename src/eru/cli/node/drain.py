"""`eru node drain`: a node takes nothing new, and is watched until nothing is left on it."""

from __future__ import annotations

import sys

import click

from eru.cli import names
from eru.cli.exits import Exit, Problem, usage
from eru.cli.lazy import verb
from eru.cli.parse import seconds
from eru.cli.resolve import short
from eru.cli.session import Session
from eru.cli.show.ask import ask
from eru.cli.show.document import as_data
from eru.cli.show.live import progress
from eru.cli.show.table import render
from eru.cli.show.talk import counted
from eru.cli.show.times import duration
from eru.cli.workload.control import remove_ids
from eru.cli.workload.health import state_of
from eru.model.errors import CoreUnreachable, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

LOOK_EVERY_S = 1.0
SHOWN_MAX = 10  # workloads named while waiting


@verb(
    "drain",
    examples="""
eru node drain web1                    nothing new there; then watch until it is empty
eru node drain web1 --timeout 0        do not watch
eru node drain web1 --remove --yes     stop and remove what is there
""",
)
@click.argument("name", shell_complete=names.nodes)
@click.option("--remove", is_flag=True, help="Stop and remove the workloads that are there. Nothing replaces them.")
@click.option("--force", is_flag=True, help="With --remove: without stopping first, and even if a hook fails.")
@click.option("--yes", is_flag=True, help="With --remove: do not ask.")
@click.option("--timeout", default="10m", show_default=True, metavar="TIME", help="How long to watch; 0: not at all.")
async def drain(session: Session, name: str, remove: bool, force: bool, yes: bool, timeout: str) -> int:
    """Let a node take no new workloads, then say what is left there and watch it go.

    Nothing moves by itself: instances elsewhere come from `workload deploy` or `scale`. `eru node uncordon`
    takes it back. Exit code 1 when workloads are left at the end.
    """
    limit_s = seconds("--timeout", timeout)
    if (force or yes) and not remove:
        raise usage(f"{'--force' if force else '--yes'} belongs to --remove")
    if remove and not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise usage(f"refusing to remove what is on node {name} without being sure", hint="add --yes")
    async with names.naming(session, "node", name):
        await session.unary(rpc.SetNode, pb.SetNodeOptions(nodename=name, bypass=pb.TRUE))
    session.talk.good(f"node {name} takes no new workloads")
    left = await _left(session, name)
    if left and remove:
        left = await _remove(session, name, left, force=force, yes=yes)
    elif left:
        session.show([as_data(each) for each in left], lambda: _table(left), [each.id for each in left])
        session.talk.say(f"{counted(len(left), 'workload')} left; nothing moves them by itself")
        session.talk.next(f"eru node drain {name} --remove")
        left = await _watch(session, name, left, limit_s)
    if left:
        if remove or limit_s:
            session.talk.bad(f"{counted(len(left), 'workload')} left on {name}")
        return Exit.ERROR
    session.talk.good(f"nothing is left on {name}")
    session.talk.next(f"eru node uncordon {name}     or: eru node remove {name}")
    return Exit.OK


async def _left(session: Session, name: str) -> list[pb.Workload]:
    answer = await session.unary(rpc.ListNodeWorkloads, pb.GetNodeOptions(nodename=name))
    return sorted(answer.workloads, key=lambda each: (each.name, each.id))


def _table(left: list[pb.Workload]) -> str:
    rows = [[[each.name], [short(each.id)], [state_of(each.status)]] for each in left]
    return render(["NAME", "ID", "STATE"], rows)


async def _remove(session: Session, name: str, left: list[pb.Workload], *, force: bool, yes: bool) -> list[pb.Workload]:
    """What is left afterwards."""
    what = f"remove {counted(len(left), 'workload')} of node {name}"
    if not yes:
        session.banner()
        session.write(_table(left))
        question = f"{what[:1].upper()}{what[1:]}{session.where}? Nothing replaces them. Type {name} to go on"
        if ask(question).strip() != name:
            raise Problem(
                f"nothing was removed; node {name} still takes no new workloads", hint=f"eru node uncordon {name}"
            )
    named = {each.id: each.name for each in left}
    if not force:  # core removes only what has stopped, and a stop runs the hooks
        await _stop(session, named)
    await remove_ids(session, list(named), named, force=force)
    return await _left(session, name)


async def _stop(session: Session, named: dict[str, str]) -> None:
    """Stop all of these; one that does not stop is told, and removing it will fail."""
    asked = pb.ControlWorkloadOptions(IDs=list(named), type="stop")
    try:
        async for answer in session.stream(rpc.ControlWorkload, asked):
            if answer.error:
                session.talk.bad(f"{named.get(answer.id, answer.id)} was not stopped: {answer.error}")
    except CoreUnreachable:
        raise
    except RemoteError as error:
        session.talk.bad(f"not all were stopped: {error}")


async def _watch(session: Session, name: str, left: list[pb.Workload], limit_s: float) -> list[pb.Workload]:
    """Tell each one that goes, until none is left or the time has passed; what is left then."""
    clock = session.world.clock
    deadline = clock.monotonic() + limit_s
    if limit_s:
        session.talk.say(f"watching for {duration(limit_s)}; Ctrl-C ends the watching, not the drain")

    def lines(elapsed: float) -> list[str]:
        shown = [f"  {each.name} {state_of(each.status)}" for each in left[:SHOWN_MAX]]
        return [f"{len(left)} left on {name}, {duration(max(deadline - clock.monotonic(), 0))} to go", *shown]

    async with progress(session.talk, session.world, lines) as live:
        while left and clock.monotonic() < deadline:
            await clock.sleep(min(LOOK_EVERY_S, max(deadline - clock.monotonic(), 0.0)))
            try:
                now = await _left(session, name)
            except CoreUnreachable:
                continue  # it may come back before the deadline
            there = {each.id for each in now}
            for each in left:
                if each.id not in there:
                    live.clear()
                    session.talk.good(f"{each.name} ({short(each.id)}) is gone")
            left[:] = now
    return left
