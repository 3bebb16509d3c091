"""What agents report of workloads, and who follows it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from eru.core.app import Core
from eru.core.fanout import Burst, Changed
from eru.core.ops import status
from eru.core.service.parts import mapped
from eru.model.errors import Refused
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.convert.deploy import workload_id
from eru.wire.convert.workloads import status_message, statuses, workload_filter, workload_message
from eru.wire.routes import Batch, Call, Route, stream, unary


def changed_message(changed: Changed) -> pb.WorkloadStatusStreamMessage:
    """Without an error it always carries workload and status."""
    if changed.workload is None:
        return pb.WorkloadStatusStreamMessage(id=changed.id, delete=changed.deleted, error=changed.error)
    workload = workload_message(changed.workload, changed.status)
    return pb.WorkloadStatusStreamMessage(
        id=changed.id, delete=changed.deleted, workload=workload, status=workload.status
    )


def batch(burst: Burst) -> Batch:
    """What all readers of a burst send: each message is made once."""
    if burst.made is None:
        for change in burst.changes:
            if change.made is None:
                change.made = changed_message(change).SerializeToString()
        burst.made = Batch([change.made for change in burst.changes])
    made: Batch = burst.made
    return made


def routes(core: Core) -> list[Route]:
    async def report(request: pb.SetWorkloadsStatusOptions, call: Call) -> pb.WorkloadsStatus:
        await status.set_statuses(core, statuses(request))
        return pb.WorkloadsStatus(status=request.status)

    async def get(request: pb.WorkloadIDs, call: Call) -> pb.WorkloadsStatus:
        found = await status.get_statuses(core, [workload_id(id) for id in request.IDs])
        return pb.WorkloadsStatus(status=[status_message(one) if one else pb.WorkloadStatus() for one in found])

    async def follow(
        request: pb.WorkloadStatusStreamOptions, call: Call
    ) -> AsyncGenerator[pb.WorkloadStatusStreamMessage | Batch, None]:
        events = status.workload_status_stream(core, workload_filter(request))
        try:
            async for message in mapped(events, batch):
                yield message
        except Refused as cut_off:  # this stream has no error status: the reason travels as a last message
            yield pb.WorkloadStatusStreamMessage(error=str(cut_off))

    return [
        unary(rpc.SetWorkloadsStatus, report),
        unary(rpc.GetWorkloadsStatus, get),
        stream(rpc.WorkloadStatusStream, follow),
    ]
