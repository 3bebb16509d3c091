"""`eru workload deploy`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from eru.cli import names
from eru.cli.exits import Exit, Problem, code_of, refusal_lines, usage
from eru.cli.lazy import verb
from eru.cli.parse import seconds
from eru.cli.resolve import told_id
from eru.cli.session import Session
from eru.cli.show.document import as_data
from eru.cli.show.live import Live, progress
from eru.cli.show.table import render
from eru.cli.show.tables import addresses
from eru.cli.show.talk import counted
from eru.cli.spec.read import load
from eru.cli.workload import deploy_options as options
from eru.cli.workload import plan
from eru.cli.workload.health import wait_healthy
from eru.cli.workload.refused import explained, from_wire, no_room, without_reasons
from eru.cli.workload.steps import Steps, aftermath
from eru.model.errors import RemoteError
from eru.model.refusals import Refusal
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

UNIMPLEMENTED = 12
OF_DOCKER = "Error response from daemon"
IMAGE_TOLD_S = 0.1  # a shorter wait for an image is not worth a word


@dataclass
class Outcome:
    """What a deploy did."""

    asked: int
    done: list[pb.CreateWorkloadMessage] = field(default_factory=list)
    failed: list[pb.CreateWorkloadMessage] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    networks: dict[str, dict[str, str]] = field(default_factory=dict)  # id -> network -> address
    refused: str = ""
    broken: str = ""  # why the answers stopped before the end
    seconds: float = 0.0
    pulled_s: float = 0.0  # of these, waiting for an image


@verb(
    "deploy",
    examples="""
eru workload deploy web.yaml --pod prod --entry web --image shop:1.4 --count 3 --wait
eru workload deploy web.yaml --pod prod --entry web --image shop:1.4 --cpu 0.5 --memory 256M --dry-run
eru workload deploy https://specs/web.yaml --pod prod --entry web --image shop:1.4 --deploy-strategy FILL
""",
)
@click.argument("spec", type=click.Path())
@options.where
@click.option("--entry", default="", shell_complete=names.spec_entries, help="Which entrypoint of the spec.")
@click.option("--image", default="", help="Which image to run.")
@click.option("--count", type=int, default=1, show_default=True, help="How many, as the strategy counts.")
@options.resources
@options.container
@click.option("--stdin", "stdin_", is_flag=True, help="Keep its input open, on a terminal: for `attach -i`.")
@click.option("--dry-run", is_flag=True, help="Only tell where the instances would go.")
@click.option("--if-rev", type=int, default=0, help="Refuse if the plan is no longer the one of this revision.")
@click.option("--all-or-nothing", is_flag=True, help="Either every instance runs or none is left.")
@click.option("--auto-replace", is_flag=True, help="Replace the instances that exist; deploy if there are none.")
@options.wait
async def deploy(session: Session, spec: str, **values: Any) -> int:
    """Run instances of an app.

    SPEC is a file, an http(s) address, or - for standard input.
    """
    options.require(values, "pod", "entry", "image")
    options.check(values)
    limit_s = seconds("--timeout", values["timeout"])
    if values["auto_replace"] and (values["all_or_nothing"] or values["if_rev"]):
        raise usage("--auto-replace cannot be combined with --all-or-nothing or --if-rev")
    parsed = await load(spec, values["entry"], session.settings)
    for warning in parsed.warnings:
        session.talk.warn(warning)
    request = options.message(session, parsed, values, options.spec_bags(parsed, values))
    request.open_stdin = values["stdin_"]
    if values["dry_run"]:
        return await plan.show(session, request)
    if request.deploy_strategy == pb.DeployOptions.DUMMY:
        raise usage("--deploy-strategy DUMMY places nothing", hint="it only works with --dry-run")
    if values["auto_replace"] and await _exists(session, request):
        from eru.cli.workload.replace import run as run_replace

        inherit = not values["network"]
        return await run_replace(session, pb.ReplaceOptions(deployOpt=request, networkinherit=inherit), concurrency=1)
    outcome = await run(session, request, if_revision=values["if_rev"], all_or_nothing=values["all_or_nothing"])
    return await finish(session, request, outcome, wait_s=limit_s, enough=values["wait"])


async def _exists(session: Session, request: pb.DeployOptions) -> bool:
    asked = pb.ListWorkloadsOptions(appname=request.name, entrypoint=request.entrypoint.name, limit=1)
    found = await session.collect(rpc.ListWorkloads, asked)
    if not found:
        session.talk.warn(f"{request.name}/{request.entrypoint.name} has no instances yet, so it is deployed")
    return bool(found)


async def run(
    session: Session, request: pb.DeployOptions, *, if_revision: int = 0, all_or_nothing: bool = False
) -> Outcome:
    """Send the request and follow the instances; ours first, because it explains more."""
    ours = v1.DeployRequest(
        options=request, if_revision=if_revision, all_or_nothing=all_or_nothing, progress=not session.settings.quiet
    )
    outcome = Outcome(asked=request.count)
    steps = Steps(session, f"{request.name}/{request.entrypoint.name}", request.count)
    started, started_ns = session.world.clock.monotonic(), session.world.clock.now_ns()
    try:
        async with progress(session.talk, session.world, steps.lines) as live:
            await _follow(session, ours, outcome, steps, live)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not task.uncancel() == 0:
            raise
        raise await aftermath(session, request.name, request.entrypoint.name, steps, started_ns) from None
    outcome.seconds, outcome.pulled_s = session.world.clock.monotonic() - started, steps.pulled_s
    return outcome


async def _follow(session: Session, ours: v1.DeployRequest, outcome: Outcome, steps: Steps, live: Live) -> None:
    """Take every event until the stream ends; a stream that breaks is noted, or raised if nothing came."""
    try:
        async for event in _events(session, ours):
            outcome.refusals += [from_wire(each) for each in event.refusals]
            if event.HasField("progress"):
                steps.take(event.progress)
            if event.HasField("instance"):
                live.clear()
                steps.ended(event.instance)
                outcome.networks[event.instance.id] = dict(event.networks)
                _take(session, outcome, event.instance)
    except RemoteError as error:
        if not (outcome.done or outcome.failed):
            raise await explained(session, ours.options, error) from None
        outcome.broken = str(error)


async def _events(session: Session, ours: v1.DeployRequest) -> AsyncIterator[v1.DeployEvent]:
    """What our core tells, or the same from a published one, which cannot do everything."""
    try:
        async for event in session.stream(rpc.Deploy, ours):
            yield event
        return
    except RemoteError as error:
        if error.code != UNIMPLEMENTED:
            raise
    if ours.if_revision or ours.all_or_nothing:
        option = "--if-rev" if ours.if_revision else "--all-or-nothing"
        raise Problem(
            f"this core cannot do {option}",
            why="it is a published core, or an older one; nothing was deployed",
            hint=f"leave {option} away, or upgrade core",
        )
    async for instance in session.stream(rpc.CreateWorkload, ours.options):
        yield v1.DeployEvent(instance=instance)


def _take(session: Session, outcome: Outcome, instance: pb.CreateWorkloadMessage) -> None:
    talk = session.talk
    if instance.success:
        outcome.done.append(instance)
        where = addresses(instance.publish, outcome.networks[instance.id])
        talk.good(f"{instance.name} on {instance.nodename}  {where}".rstrip())
    elif not instance.id and not instance.nodename:
        outcome.refused = instance.error
    else:
        outcome.failed.append(instance)
        where = f" on {instance.nodename}" if instance.nodename else ""
        talk.bad(f"{instance.name or 'instance'}{where}: {instance.error}")
    for text in instance.hook.decode("utf-8", "replace").splitlines():
        talk.say(f"  hook: {text}")


async def finish(
    session: Session, request: pb.DeployOptions, outcome: Outcome, *, wait_s: float = 0.0, enough: str = ""
) -> int:
    """Print the result, wait for health if asked, and say how it ended."""
    label = f"{request.name}/{request.entrypoint.name}"
    if outcome.refused.endswith("each node has enough workloads") and not outcome.done:
        session.talk.say(f"nothing to do: each node has {counted(request.count, 'instance')} of {label}")
        return Exit.OK
    if outcome.refused and not outcome.done and not outcome.failed:
        code = code_of("", outcome.refused)
        # a published core names no instance when an image is not to be had
        if code == Exit.ERROR and outcome.refused.startswith(OF_DOCKER):
            raise Problem(f"{label} was not deployed: {outcome.refused}")
        problem = Problem(
            f"{label} was not deployed: {without_reasons(outcome.refused, outcome.refusals)}",
            why=refusal_lines(outcome.refusals),
            code=code if code != Exit.ERROR else Exit.REFUSED,
        )
        raise await no_room(session, request, problem)
    rows = sorted(outcome.done, key=lambda each: each.name)
    everything = [*rows, *outcome.failed]
    ids = [each.id for each in rows]
    session.report([as_data(each) for each in everything], lambda: _table(session, rows, outcome.networks), ids)
    total = len(outcome.done) + len(outcome.failed)
    session.talk.say(f"deployed {len(outcome.done)} of {total} {label}{_on(outcome)} in {_time(outcome)}")
    code = Exit.OK if not outcome.failed else Exit.PARTLY if outcome.done else Exit.ERROR
    if outcome.broken:
        session.talk.bad(f"the rest is not known: {outcome.broken}")
        session.talk.next(f"eru workload list {request.name}")
        code = Exit.PARTLY
    if enough and outcome.done:
        healthy = await wait_healthy(session, {each.id: each.name for each in rows}, wait_s, enough=enough)
        code = code if healthy else Exit.PARTLY
    if outcome.failed:
        session.talk.next(f"eru events {request.name}")
    if outcome.done and not code:
        session.talk.next(f"eru workload logs -f {label}")
    return code


def _on(outcome: Outcome) -> str:
    nodes = {each.nodename for each in outcome.done}
    return f" on {counted(len(nodes), 'node')}" if nodes else ""


def _time(outcome: Outcome) -> str:
    image = f" (image {outcome.pulled_s:.1f}s)" if outcome.pulled_s >= IMAGE_TOLD_S else ""
    return f"{outcome.seconds:.1f}s{image}"


def _table(session: Session, done: list[pb.CreateWorkloadMessage], networks: Mapping[str, Mapping[str, str]]) -> str:
    if not done:
        return ""
    return render(
        ["NAME", "ID", "NODE", "ADDRESSES"],
        [
            [[each.name], [told_id(session, each.id)], [each.nodename], [addresses(each.publish, networks[each.id])]]
            for each in done
        ],
    )
