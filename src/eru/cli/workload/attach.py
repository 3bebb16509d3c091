"""What comes back from a remote command: its output, its errors, its exit code."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator

from eru.cli.exits import Exit, Problem, code_of
from eru.cli.resolve import told_id
from eru.cli.session import Session
from eru.wire import core_pb2 as pb

_EXIT = re.compile(rb"\[exitcode\] (-?\d+)\s*")


async def follow(
    session: Session,
    answers: AsyncIterator[pb.AttachWorkloadMessage],
    *,
    workloads: int,
    prefix: bool = False,
    lines: bool = False,
) -> int:
    """Print until `workloads` commands have ended; the first exit code that is not 0, or an error's.

    A stream that ends without an exit code is an error: the command's fate is unknown. `lines`: output comes
    in whole lines, so that a failure that core tells as output can be told from it; it is raised as a Problem.
    """
    ended = 0
    errors = 0
    printed = False
    held: pb.AttachWorkloadMessage | None = None  # the only message so far, if it may be why nothing ran
    async for answer in answers:
        if answer.std_stream_type == pb.ERUERROR:
            errors += 1
            session.talk.bad(answer.data.decode("utf-8", "replace").rstrip())
            continue
        if answer.std_stream_type == pb.TYPEWORKLOADID:
            if answer.workload_id:
                session.talk.say(f"workload {told_id(session, answer.workload_id)}")
            else:
                errors += 1
                session.talk.bad("an instance could not be made")
            continue
        code = _EXIT.fullmatch(answer.data)
        if held is not None:
            _print(held, prefix)
            held = None
        if code is None:
            # core tells failures as output, without a line's end and without an exit code after it
            if lines and not printed and not answer.data.endswith(b"\n"):
                held = answer
            else:
                _print(answer, prefix)
            printed = True
            continue
        if int(code[1]):
            return int(code[1]) & 0xFF
        ended += 1
        if ended >= workloads:
            break
    if held is not None:
        text = held.data.decode("utf-8", "replace")
        raise Problem(text, code=code_of("", text))
    if errors:
        session.talk.next("eru events lambda")
        return Exit.PARTLY if ended else Exit.ERROR
    if not ended:
        session.talk.bad("no exit code came back: the command did not run, or nobody knows how it ended")
    return Exit.OK if ended else Exit.ERROR


def _print(answer: pb.AttachWorkloadMessage, prefix: bool) -> None:
    out = sys.stderr.buffer if answer.std_stream_type == pb.STDERR else sys.stdout.buffer
    if prefix:
        out.write(f"[{answer.workload_id}] ".encode())
    out.write(answer.data)
    out.flush()
