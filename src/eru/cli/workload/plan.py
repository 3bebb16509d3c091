"""`--dry-run`: where instances would go, and why not elsewhere."""

from __future__ import annotations

from collections import Counter

from eru.cli.exits import Exit, Problem, quantity, refusal_lines
from eru.cli.session import Session
from eru.cli.show.document import as_data
from eru.cli.show.resources import is_nothing, lines, opened
from eru.cli.show.table import render
from eru.cli.show.talk import counted
from eru.cli.workload.refused import again, explained, from_wire, no_room, without_reasons
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

UNIMPLEMENTED = 12


async def show(session: Session, request: pb.DeployOptions) -> int:
    """The exact placement from our core; the counts per node from a published one."""
    try:
        if request.deploy_strategy != pb.DeployOptions.DUMMY:
            return await _placement(session, request)
    except RemoteError as error:
        if error.code != UNIMPLEMENTED:
            raise await explained(session, request, error) from None
    try:
        return await _capacity(session, request)
    except RemoteError as error:
        raise await explained(session, request, error) from None


async def _placement(session: Session, request: pb.DeployOptions) -> int:
    reply = await session.unary(rpc.Plan, v1.PlanRequest(options=request))
    counts = Counter(each.nodename for each in reply.placements)
    grants = {each.nodename: _granted(each.resources) for each in reply.placements}
    rows = [[[node], [str(counts[node])], grants[node]] for node in sorted(counts)]
    heads = ["NODE", "INSTANCES", "RESOURCES EACH"]
    session.show(as_data(reply), lambda: render(heads, rows, separate=True), sorted(counts))
    refusals = [from_wire(each) for each in reply.refusals]
    why = refusal_lines(refusals)
    if reply.error:
        problem = Problem(
            f"{request.name}/{request.entrypoint.name} would not be deployed: {without_reasons(reply.error, refusals)}",
            why=why,
            code=Exit.REFUSED,
        )
        raise await no_room(session, request, problem)
    for line in why:
        session.talk.say(f"not used: {line}")
    session.talk.say(
        f"{counted(len(reply.placements), 'instance')} on {len(counts)} of {counted(reply.nodes_considered, 'node')}, "
        f"planned in {reply.seconds * 1000:.1f} ms at revision {reply.revision}; nothing was changed"
    )
    session.talk.next(again(session, ("--dry-run", f"--if-rev {reply.revision}")))
    return Exit.OK


def _granted(text: str) -> list[str]:
    """What one instance gets, as lines; what it does not get is left out."""
    kinds = opened(text)
    return [
        line
        for kind in sorted(kinds)
        for key, value in sorted(kinds[kind].items())
        if not is_nothing(value)
        for line in ([f"{key}: {quantity(key, value)}"] if isinstance(value, int | float) else lines({key: value}))
    ]


async def _capacity(session: Session, request: pb.DeployOptions) -> int:
    answer = await session.unary(rpc.CalculateCapacity, request)
    rows = sorted(answer.node_capacities.items(), key=lambda each: (-each[1], each[0]))
    if session.tables:
        session.write(f"Total: {answer.total}\n")
    session.show(
        {"total": answer.total, "nodes": [{"name": each, "capacity": count} for each, count in rows]},
        lambda: render(["NODE", "CAPACITY"], [[[each], [str(count)]] for each, count in rows]),
        [each for each, count in rows if count],
    )
    if answer.total <= 0:
        raise Problem("nothing of this size fits", code=Exit.REFUSED)
    session.talk.say("nothing was changed")
    return Exit.OK
