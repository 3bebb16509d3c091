"""`eru workload attach`."""

from __future__ import annotations

import sys

import click

from eru.cli import names, resolve
from eru.cli.exits import Exit, Problem
from eru.cli.hints import hint
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.workload.health import reported
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb("attach", examples="eru workload attach 3f2a\neru workload attach shop_web_aBcDeF 2>errors.log")
@click.argument("workload", shell_complete=names.workloads)
async def attach(session: Session, workload: str) -> int:
    """What a workload prints from now on, until it ends. Ctrl-C leaves it running.

    Output only: a deployed workload has no input of its own. `eru exec -i` runs a shell beside it,
    `eru lambda --stdin` a command with input.
    """
    found = next(iter((await resolve.found(session, [workload])).values()))
    label = found.name or resolve.short(found.id)
    session.talk.say(f"attached to {label}; Ctrl-C leaves it running")
    asked = pb.LogStreamOptions(id=found.id, tail="0", follow=True)
    async for message in session.stream(rpc.LogStream, asked):
        if message.error:
            raise Problem(f"{label}: {message.error}", hint=hint(message.error, "eru"))
        out = sys.stderr.buffer if message.std_stream_type == pb.STDERR else sys.stdout.buffer
        out.write(message.data if message.data.endswith(b"\n") else message.data + b"\n")
        out.flush()
    state = (await reported(session, [found.id])).get(found.id, "")
    session.talk.say(f"{label} {'has stopped' if state in ('stopped', 'unreported', '') else f'is {state}'}")
    session.talk.next(f"eru why {label}")
    return Exit.OK
