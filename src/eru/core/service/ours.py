"""The calls of eru.v1: what our own clients can ask beyond the published API."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from eru.core.app import Core
from eru.core.debug import dump
from eru.core.ops import capacity, deploy
from eru.core.service.deploy import counted, created_message
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
        return mapped(counted(core, deploy.deploy(core, demanding_spec(request))), deployed_event)

    return [unary(rpc.Plan, plan), stream(rpc.Deploy, create)]


def debug_routes(core: Core, server: RpcServer) -> list[Route]:
    async def debug(request: v1.DebugRequest, call: Call) -> v1.DebugReply:
        return v1.DebugReply(json=to_json(dump(core, server)))

    return [unary(rpc.Debug, debug)]
