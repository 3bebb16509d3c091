"""The calls of eru.v1: what our own clients can ask beyond the published API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec

from eru.core.app import Core
from eru.core.debug import dump
from eru.core.events import Happened, Wanted, listen
from eru.core.ops import capacity, deploy, events
from eru.core.results import stream as streamed
from eru.core.service.deploy import created_message
from eru.core.service.parts import error_text, mapped
from eru.model.deploy import DeploySpec
from eru.model.errors import InvalidInput
from eru.model.results import Deployed
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1
from eru.wire.convert.deploy import deploy_spec
from eru.wire.convert.nodes import refusal_message
from eru.wire.convert.text import to_json
from eru.wire.routes import Call, Route, stream, unary
from eru.wire.server import RpcServer

PROGRESS_WAITING_MAX = 10_000  # events of a deploy that its client has not taken yet


def demanding_spec(request: v1.DeployRequest) -> DeploySpec:
    """A deploy with its demands. Raises InvalidInput."""
    if request.if_revision < 0:
        raise InvalidInput(f"if_revision is {request.if_revision}, it cannot be negative (0: do not ask)")
    return msgspec.structs.replace(
        deploy_spec(request.options), if_revision=request.if_revision, all_or_nothing=request.all_or_nothing
    )


def deployed_event(result: Deployed) -> v1.DeployEvent:
    return v1.DeployEvent(
        instance=created_message(result),
        refusals=[refusal_message(refusal) for refusal in result.refusals],
        networks=result.networks,
    )


def event_message(event: Happened) -> v1.Event:
    return v1.Event(
        time_ns=event.time_ns,
        kind=event.kind,
        appname=event.app,
        entrypoint=event.entrypoint,
        id=event.id,
        name=event.name,
        nodename=event.node,
        detail=event.detail,
        error=event.error,
        trace_id=event.trace,
        core=event.core,
    )


def wanted_events(request: v1.EventsRequest) -> Wanted:
    return Wanted(
        app=request.appname,
        entrypoint=request.entrypoint,
        workloads=frozenset(filter(None, request.ids)),
        node=request.nodename,
        since_ns=request.since_ns,
    )


def with_progress(core: Core, spec: DeploySpec) -> AsyncGenerator[Deployed | Happened, None]:
    """A deploy with its events among its results. Of a client that hardly reads, events are dropped, never results."""
    waiting = 0

    async def work(tell: Callable[[Deployed | Happened], None]) -> None:
        def hear(event: Happened) -> None:
            nonlocal waiting
            if waiting < PROGRESS_WAITING_MAX:
                waiting += 1
                tell(event)
            else:
                core.events.progress_dropped += 1

        listen(hear)
        async with aclosing(deploy.deploy(core, spec)) as results:
            async for result in results:
                tell(result)

    async def passing() -> AsyncGenerator[Deployed | Happened, None]:
        nonlocal waiting
        async with aclosing(streamed(core.background, f"progress of {spec.app}", work)) as told:
            async for one in told:
                waiting -= isinstance(one, Happened)
                yield one

    return passing()


def progress_event(one: Deployed | Happened) -> v1.DeployEvent:
    return v1.DeployEvent(progress=event_message(one)) if isinstance(one, Happened) else deployed_event(one)


def routes(core: Core) -> list[Route]:
    async def plan(request: v1.PlanRequest, call: Call) -> v1.PlanReply:
        run = await capacity.dry_run(core, deploy_spec(request.options))
        return v1.PlanReply(
            revision=run.revision,
            placements=[
                v1.Placement(nodename=one.nodename, sequence=one.sequence, resources=to_json(one.grant))
                for one in run.placements
            ],
            refusals=[refusal_message(refusal) for refusal in run.refusals],
            error=error_text(run.error),
            nodes_considered=run.considered,
            seconds=run.seconds,
        )

    def create(request: v1.DeployRequest, call: Call) -> AsyncGenerator[v1.DeployEvent, None]:
        spec = demanding_spec(request)
        if request.progress:
            return mapped(with_progress(core, spec), progress_event)
        return mapped(deploy.deploy(core, spec), deployed_event)

    def happened(request: v1.EventsRequest, call: Call) -> AsyncGenerator[v1.Event, None]:
        found = events.events(core, wanted_events(request), limit=request.limit, follow=request.follow)
        return mapped(found, event_message)

    return [unary(rpc.Plan, plan), stream(rpc.Deploy, create), stream(rpc.Events, happened)]


def debug_routes(core: Core, server: RpcServer) -> list[Route]:
    async def debug(request: v1.DebugRequest, call: Call) -> v1.DebugReply:
        return v1.DebugReply(json=to_json(dump(core, server)))

    return [unary(rpc.Debug, debug)]
