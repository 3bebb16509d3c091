"""`eru exec`, `eru workload exec`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext

import click

from eru.cli import names, resolve
from eru.cli.exits import Problem, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.workload import attach, terminal
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb(
    "exec",
    tail=True,
    examples="""
eru exec -i shop/web sh                      in one of its running instances
eru exec 3f2a -- ps aux
echo 'select 1' | eru exec -i shop/db psql
""",
)
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on; on a terminal, be one.")
@click.option("-t", "--tty", is_flag=True, hidden=True)
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Environment; can be repeated.")
@click.option("-w", "--workdir", default="/", show_default=True, help="Where to run it.")
@click.argument("workload", shell_complete=names.apps_and_workloads)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
async def exec_(
    session: Session,
    workload: str,
    command: tuple[str, ...],
    interactive: bool,
    tty: bool,
    env: tuple[str, ...],
    workdir: str,
) -> int:
    """Run a command inside a workload; its exit code becomes ours.

    WORKLOAD is an id, a prefix, a name, or an app or app/entry (one instance is picked). Options go before it.
    """
    words = list(command[1:] if command[:1] == ("--",) else command)
    if not words:
        raise usage("no command is given", hint=f"eru exec {workload} -- ls /")
    id_ = await _pick(session, workload)
    interactive = interactive or tty
    first = pb.ExecuteWorkloadOptions(
        workload_id=id_, commands=words, envs=env, workdir=workdir, open_stdin=interactive
    )

    async def requests() -> AsyncIterator[pb.ExecuteWorkloadOptions]:
        yield first
        if interactive:
            async for frame in terminal.input_frames():
                yield pb.ExecuteWorkloadOptions(repl_cmd=frame)

    with terminal.raw() if interactive else nullcontext():
        return await attach.follow(
            session,
            session.both(rpc.ExecuteWorkload, requests(), tty=tty or terminal.is_terminal()),
            workloads=1,
            lines=not interactive,
        )


async def _pick(session: Session, word: str) -> str:
    """The id of the workload meant; for an app, of one of its running instances."""
    if resolve.is_full_id(word):
        return word
    directory = resolve.Directory(session)
    instances = await directory.of_app(word)
    if not instances:
        return (await resolve.one(directory, word)).id
    running = [each for each in instances if each.status.running]
    unknown = [each for each in instances if not each.status.id]  # no agent has reported them yet
    if not (running or unknown):
        names_ = ", ".join(sorted(each.name for each in instances)[: resolve.CANDIDATES_SHOWN_MAX])
        raise Problem(f"no instance of {word} runs", why=names_, hint=f"eru workload start {instances[0].name}")
    picked = min(running or unknown, key=lambda each: (not each.status.healthy, each.name))
    session.talk.say(f"in {picked.name} on {picked.nodename}, one of {len(instances)}")
    return picked.id
