"""Start, stop, restart, suspend, resume."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from eru.core.app import Core
from eru.core.ops import control
from eru.core.service.parts import error_text, mapped
from eru.model.errors import InvalidInput
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.convert.workloads import ids
from eru.wire.routes import Call, Route, stream


def message(result: control.Controlled) -> pb.ControlWorkloadMessage:
    return pb.ControlWorkloadMessage(id=result.id, error=error_text(result.error), hook=result.hook)


async def _refused(ids: list[str], error: InvalidInput) -> AsyncGenerator[control.Controlled, None]:
    for id in ids:
        yield control.Controlled(id=id, error=error)


def routes(core: Core) -> list[Route]:
    def act(request: pb.ControlWorkloadOptions, call: Call) -> AsyncGenerator[pb.ControlWorkloadMessage, None]:
        wanted = ids(request.IDs)
        try:
            verb = control.parse_verb(request.type)
        except InvalidInput as error:  # told for each workload, as clients expect
            return mapped(_refused(wanted, error), message)
        return mapped(control.control(core, wanted, verb, force=request.force), message)

    return [stream(rpc.ControlWorkload, act)]
