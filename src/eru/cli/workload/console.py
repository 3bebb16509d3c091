"""`eru workload attach`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import click

from eru.cli import names, resolve
from eru.cli.exits import Exit, Problem
from eru.cli.hints import hint
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.workload import terminal
from eru.cli.workload.attach import follow
from eru.cli.workload.health import reported
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

DETACH = b"\x10\x11"  # Ctrl-P Ctrl-Q, as Docker has it


@verb(
    "attach",
    examples="""
eru workload attach 3f2a
eru workload attach shop_web_aBcDeF 2>errors.log
eru workload attach -i shop_console_aBcDeF        Ctrl-P Ctrl-Q leaves it running
""",
)
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on; on a terminal, be one.")
@click.argument("workload", shell_complete=names.workloads)
async def attach(session: Session, workload: str, interactive: bool) -> int:
    """What a workload prints from now on, until it ends. Ctrl-C leaves it running.

    With -i its main program also gets our input, if it was deployed with --stdin, and its exit code becomes ours.
    `eru exec -i` runs a shell beside it.
    """
    found = next(iter((await resolve.found(session, [workload])).values()))
    label = found.name or resolve.short(found.id)
    if interactive:
        return await _join(session, found.id, label)
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


async def _join(session: Session, id_: str, label: str) -> int:
    """Be the workload's terminal, until it ends or the keys to leave it are typed."""
    if terminal.is_terminal():
        session.talk.say(f"attached to {label}; Ctrl-P Ctrl-Q leaves it running")
    with terminal.raw():
        try:
            async with asyncio.timeout(None) as staying:

                async def requests() -> AsyncIterator[v1.AttachRequest]:
                    yield v1.AttachRequest(id=id_, stdin=True)
                    async for frame in until_left(terminal.input_frames()):
                        yield v1.AttachRequest(input=frame)
                    if terminal.is_terminal():
                        staying.reschedule(asyncio.get_running_loop().time())

                answers = session.both(rpc.Attach, requests(), tty=terminal.is_terminal())
                return await follow(session, answers, workloads=1)
        except TimeoutError:
            pass  # the keys to leave were typed; what to say waits until the terminal is as before
    session.talk.say(f"left {label}, which goes on")
    return Exit.OK


async def until_left(frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What is typed, until the keys that leave are. The first of them is held until the next key is known."""
    held = b""
    async for frame in frames:
        data = held + frame
        held = b""
        if frame[:1] == terminal.RESIZE:
            yield frame
            held = data[: -len(frame)]
            continue
        before, found, _ = data.partition(DETACH)
        if found:
            if before:
                yield before
            return
        if data.endswith(DETACH[:1]):
            data, held = data[:-1], DETACH[:1]
        if data:
            yield data
    if held:
        yield held
