"""What agents report of workloads, and who follows it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator

from eru.core.app import Core
from eru.core.ops import status
from eru.core.service.parts import mapped
from eru.core.service.workloads import seen_message
from eru.model.errors import Refused
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.convert.deploy import workload_id
from eru.wire.convert.workloads import status_message, statuses, workload_filter
from eru.wire.routes import Call, Route, stream, unary

MESSAGES_KEPT = 1024  # events whose readers are at most so far apart


def changed_message(changed: status.Changed) -> pb.WorkloadStatusStreamMessage:
    """Without an error it always carries workload and status."""
    if changed.seen is None:
        return pb.WorkloadStatusStreamMessage(id=changed.id, delete=changed.deleted, error=changed.error)
    workload = seen_message(changed.seen)
    return pb.WorkloadStatusStreamMessage(
        id=changed.id, delete=changed.deleted, workload=workload, status=workload.status
    )


class _Built:
    """Messages of the newest events, so that many readers of one event cost one message."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], pb.WorkloadStatusStreamMessage] = OrderedDict()

    def message(self, changed: status.Changed) -> pb.WorkloadStatusStreamMessage:
        key = (changed.id, changed.revision)
        made = self._kept.get(key)
        if made is None or changed.error:
            made = self._kept[key] = changed_message(changed)
            if len(self._kept) > MESSAGES_KEPT:
                self._kept.popitem(last=False)
        return made


def routes(core: Core) -> list[Route]:
    built = _Built()

    async def report(request: pb.SetWorkloadsStatusOptions, call: Call) -> pb.WorkloadsStatus:
        await status.set_statuses(core, statuses(request))
        return pb.WorkloadsStatus(status=request.status)

    async def get(request: pb.WorkloadIDs, call: Call) -> pb.WorkloadsStatus:
        found = await status.get_statuses(core, [workload_id(id) for id in request.IDs])
        return pb.WorkloadsStatus(status=[status_message(one) if one else pb.WorkloadStatus() for one in found])

    async def follow(
        request: pb.WorkloadStatusStreamOptions, call: Call
    ) -> AsyncGenerator[pb.WorkloadStatusStreamMessage, None]:
        events = status.workload_status_stream(core, workload_filter(request))
        try:
            async for message in mapped(events, built.message):
                yield message
        except Refused as cut_off:  # this stream has no error status: the reason travels as a last message
            yield pb.WorkloadStatusStreamMessage(error=str(cut_off))

    return [
        unary(rpc.SetWorkloadsStatus, report),
        unary(rpc.GetWorkloadsStatus, get),
        stream(rpc.WorkloadStatusStream, follow),
    ]
