"""Why a deploy was refused, and what to type instead."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from eru.cli import names
from eru.cli.exits import Exit, Problem, explain
from eru.cli.session import Session
from eru.cli.suggest import did_you_mean
from eru.model.errors import RemoteError
from eru.model.refusals import Reason, Refusal
from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1


def from_wire(refusal: v1.Refusal) -> Refusal:
    """Ours from the message; a reason that a newer core invented is told in its own words."""
    known = {each.value for each in Reason}
    return Refusal(
        nodename=refusal.nodename,
        reason=Reason(refusal.reason) if refusal.reason in known else Reason.LIMIT,
        dimension=refusal.dimension,
        wanted=refusal.wanted,
        free=refusal.free,
        detail=refusal.detail or ("" if refusal.reason in known else refusal.reason),
    )


def without_reasons(text: str, refusals: Sequence[Refusal]) -> str:
    """The sentence that core's error begins with; what follows sums up the refusals, which are told in full."""
    kept, sentence, _ = text.partition("not enough resource")
    return f"{kept}{sentence}" if refusals and sentence else text


async def explained(session: Session, request: pb.DeployOptions, error: RemoteError) -> Problem:
    """The problem to tell; an unknown pod is named as what it is."""
    problem = explain(error)
    if str(error).startswith("core at"):  # it was reached, and then lost
        problem.hint = f"what was begun is taken back or finished; `eru workload list {request.name}` shows it"
    if problem.code in (Exit.REFUSED, Exit.NOT_FOUND):
        return await no_room(session, request, problem)
    return problem


async def no_room(session: Session, request: pb.DeployOptions, problem: Problem) -> Problem:
    """Why there is no room: a wrong pod or node name, or really no capacity."""
    pods = await names.known(session, "pod")
    if pods and request.podname not in pods:
        hint = did_you_mean(request.podname, pods) or f"the pods are {', '.join(pods[:8])}"
        return Problem(f"there is no pod {request.podname!r}", hint=hint, code=Exit.NOT_FOUND)
    nodes = await names.known(session, "node") if request.node_filter.includes else []
    for node in request.node_filter.includes:
        if nodes and node not in nodes:
            hint = did_you_mean(node, nodes) or f"the nodes are {', '.join(nodes[:8])}"
            return Problem(f"there is no node {node!r}", hint=hint, code=Exit.NOT_FOUND)
    if "since revision" in problem.what:
        problem.hint = "look at a new plan with --dry-run, then give its revision"
    elif not problem.hint:
        problem.hint = f"`eru pod resource {request.podname}` shows what is free; ask for less, or add nodes"
    return problem


def again(session: Session, *changes: tuple[str, str]) -> str:
    """The command line of this run with some words replaced."""
    replaced = dict(changes)
    words = [replaced.get(word, shlex.quote(word)) for word in session.settings.argv]
    return " ".join([session.settings.program, *words])
