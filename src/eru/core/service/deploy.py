"""Making, replacing and removing workloads, and asking whether they would fit."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TypeVar

from eru.core.app import Core
from eru.core.ops import capacity, deploy, dissociate, realloc, remove, replace
from eru.core.service.parts import error_text, mapped
from eru.model.errors import InvalidRawArgs
from eru.model.results import Deployed, Dissociated, Removed, Replaced
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.convert.deploy import capacity_spec, deploy_spec, replace_spec, workload_id
from eru.wire.convert.text import parse_bags, to_json
from eru.wire.convert.workloads import ids
from eru.wire.routes import Call, Route, stream, unary

D = TypeVar("D")
M = TypeVar("M")


def created_message(result: Deployed) -> pb.CreateWorkloadMessage:
    return pb.CreateWorkloadMessage(
        podname=result.podname,
        nodename=result.nodename,
        id=result.id,
        name=result.name,
        error=error_text(result.error),
        success=result.success,
        publish=result.publish,
        hook=result.hook,
        resources=to_json(result.resources or None),
    )


def removed_message(result: Removed, why: bool = True) -> pb.RemoveWorkloadMessage:
    """The text of a failure travels as the output of hooks, as published, unless the message has a place for `why`."""
    hook = result.hook.decode(errors="replace") if result.success or not why else error_text(result.error)
    return pb.RemoveWorkloadMessage(id=result.id, success=result.success, hook=hook)


def dissociated_message(result: Dissociated) -> pb.DissociateWorkloadMessage:
    return pb.DissociateWorkloadMessage(id=result.id, error=error_text(result.error))


def replaced_message(result: Replaced) -> pb.ReplaceWorkloadMessage:
    """The fate of the old one is always told, as clients expect."""
    return pb.ReplaceWorkloadMessage(
        create=created_message(result.create) if result.create is not None else None,
        remove=removed_message(result.remove, why=result.error is None),
        error=error_text(result.error),
    )


def routes(core: Core) -> list[Route]:
    def create(request: pb.DeployOptions, call: Call) -> AsyncGenerator[pb.CreateWorkloadMessage, None]:
        try:
            made = deploy.deploy(core, deploy_spec(request))
        except InvalidRawArgs as error:
            made = deploy.refused(error)
        return mapped(made, created_message)

    def take_away(request: pb.RemoveWorkloadOptions, call: Call) -> AsyncGenerator[pb.RemoveWorkloadMessage, None]:
        return mapped(remove.remove(core, ids(request.IDs), force=request.force), removed_message)

    def let_go(request: pb.DissociateWorkloadOptions, call: Call) -> AsyncGenerator[pb.DissociateWorkloadMessage, None]:
        return mapped(dissociate.dissociate(core, ids(request.IDs)), dissociated_message)

    def replacing(request: pb.ReplaceOptions, call: Call) -> AsyncGenerator[pb.ReplaceWorkloadMessage, None]:
        return mapped(replace.replace(core, replace_spec(request)), replaced_message)

    async def reallocate(request: pb.ReallocOptions, call: Call) -> pb.ReallocResourceMessage:
        await realloc.realloc(core, workload_id(request.id), parse_bags(request.resources))
        return pb.ReallocResourceMessage()

    async def fits(request: pb.DeployOptions, call: Call) -> pb.CapacityMessage:
        found = await capacity.capacity(core, capacity_spec(request))
        return pb.CapacityMessage(total=found.total, node_capacities=found.nodes)

    return [
        stream(rpc.CreateWorkload, create),
        stream(rpc.ReplaceWorkload, replacing),
        stream(rpc.RemoveWorkload, take_away),
        unary(rpc.ReallocResource, reallocate),
        stream(rpc.DissociateWorkload, let_go),
        unary(rpc.CalculateCapacity, fits),
    ]
