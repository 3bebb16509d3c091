"""Nodes, their resources and heartbeats."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import structlog

from eru.core.app import Core
from eru.core.ops import accounting, nodes, status
from eru.core.service.parts import mapped
from eru.core.service.pods import account_message
from eru.core.statuses import NodeEvent
from eru.model.errors import Refused
from eru.model.names import check_name
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.convert import nodes as convert
from eru.wire.convert.deploy import checked_map
from eru.wire.routes import Call, Route, stream, unary

_log = structlog.get_logger(__name__)


def node_message(row: nodes.NodeInfo) -> pb.Node:
    shown = row.found.shown if row.found is not None else None
    if not (isinstance(shown, convert.Shown) and shown.capacity is row.capacity and shown.usage is row.usage):
        shown = convert.Shown(row.capacity, row.usage)
        if row.found is not None:
            row.found.shown = shown
    info = row.info_error or (convert.engine_info_text(row.info) if row.info is not None else "")
    return convert.node_message(row.node, shown, available=row.available, info=info)


def event_message(event: NodeEvent) -> pb.NodeStatusStreamMessage:
    return pb.NodeStatusStreamMessage(nodename=event.nodename, podname=event.podname, alive=event.alive)


def routes(core: Core) -> list[Route]:
    async def add(request: pb.AddNodeOptions, call: Call) -> pb.Node:
        return node_message(await nodes.add_node(core, convert.new_node(request)))

    async def get(request: pb.GetNodeOptions, call: Call) -> pb.Node:
        return node_message(await nodes.get_node(core, request.nodename))

    async def change(request: pb.SetNodeOptions, call: Call) -> pb.Node:
        return node_message(await nodes.set_node(core, convert.node_change(request)))

    async def remove(request: pb.RemoveNodeOptions, call: Call) -> pb.Empty:
        await nodes.remove_node(core, request.nodename)
        return pb.Empty()

    async def engine(request: pb.GetNodeOptions, call: Call) -> pb.Engine:
        return pb.Engine(type=await nodes.engine_type(core, request.nodename))

    def of_pod(request: pb.ListNodesOptions, call: Call) -> AsyncGenerator[pb.Node, None]:
        rows = nodes.list_nodes(
            core,
            request.podname,
            checked_map("labels", request.labels),
            everything=request.all,
            with_info=not request.skip_info,
            timeout_s=float(request.timeout_in_second) if request.timeout_in_second > 0 else core.settings.list_s,
        )
        return mapped(rows, node_message)

    async def resource(request: pb.GetNodeResourceOptions, call: Call) -> pb.NodeResource:
        name = check_name("node name", request.opts.nodename)
        return account_message(await accounting.node_account(core, name, fix=request.fix))

    return [
        unary(rpc.AddNode, add),
        unary(rpc.GetNode, get),
        unary(rpc.SetNode, change),
        unary(rpc.RemoveNode, remove),
        unary(rpc.GetNodeEngineInfo, engine),
        stream(rpc.ListPodNodes, of_pod),
        unary(rpc.GetNodeResource, resource),
        *_heartbeats(core),
    ]


def _heartbeats(core: Core) -> list[Route]:
    async def beat(request: pb.SetNodeStatusOptions, call: Call) -> pb.Empty:
        await status.set_node_status(core, request.nodename, request.ttl)
        return pb.Empty()

    async def state(request: pb.GetNodeStatusOptions, call: Call) -> pb.NodeStatusStreamMessage:
        return event_message(await status.get_node_status(core, request.nodename))

    async def follow(request: pb.Empty, call: Call) -> AsyncGenerator[pb.NodeStatusStreamMessage, None]:
        try:
            async for message in mapped(status.node_status_stream(core), event_message):
                yield message
        except Refused as cut_off:  # this stream has no error status: the reason travels as a last message
            yield pb.NodeStatusStreamMessage(error=str(cut_off))

    return [
        unary(rpc.SetNodeStatus, beat),
        unary(rpc.GetNodeStatus, state),
        stream(rpc.NodeStatusStream, follow),
    ]
