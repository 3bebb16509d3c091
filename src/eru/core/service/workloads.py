"""Reading workloads."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from eru.core.app import Core
from eru.core.ops import stats, workloads
from eru.core.service.parts import mapped
from eru.model.errors import InvalidInput
from eru.model.requests import WorkloadFilter
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1
from eru.wire.convert.deploy import checked_map, workload_id
from eru.wire.convert.workloads import ids, workload_filter, workload_message
from eru.wire.routes import Call, Route, stream, unary


def seen_message(seen: workloads.Seen) -> pb.Workload:
    return workload_message(seen.workload, seen.status)


def stat_message(measured: stats.Measured) -> v1.Stat:
    workload, figures = measured.workload, measured.figures
    said = v1.Stat(id=workload.id, name=workload.name, nodename=workload.nodename, error=measured.error)
    if figures is not None:
        for name in figures.__struct_fields__:
            setattr(said, name, getattr(figures, name))
    return said


def routes(core: Core) -> list[Route]:
    async def get(request: pb.WorkloadID, call: Call) -> pb.Workload:
        return seen_message((await workloads.get_workloads(core, [workload_id(request.id)]))[0])

    async def get_many(request: pb.WorkloadIDs, call: Call) -> pb.Workloads:
        wanted = [workload_id(id) for id in request.IDs]
        return pb.Workloads(workloads=[seen_message(seen) for seen in await workloads.get_workloads(core, wanted)])

    def all_of_them(request: pb.ListWorkloadsOptions, call: Call) -> AsyncGenerator[pb.Workload, None]:
        return mapped(workloads.list_workloads(core, workload_filter(request)), seen_message)

    async def of_node(request: pb.GetNodeOptions, call: Call) -> pb.Workloads:
        if not request.nodename:
            raise InvalidInput("node name is empty")
        labels = checked_map("labels", request.labels)
        found = await workloads.node_workloads(core, request.nodename, labels)
        return pb.Workloads(workloads=[seen_message(seen) for seen in found])

    def measured(request: v1.StatsRequest, call: Call) -> AsyncGenerator[v1.Stat, None]:
        wanted = WorkloadFilter(appname=request.appname, entrypoint=request.entrypoint, nodename=request.nodename)
        return mapped(stats.stats(core, wanted, ids(request.ids) if request.ids else []), stat_message)

    return [
        unary(rpc.GetWorkload, get),
        unary(rpc.GetWorkloads, get_many),
        stream(rpc.ListWorkloads, all_of_them),
        unary(rpc.ListNodeWorkloads, of_node),
        stream(rpc.Stats, measured),
    ]
