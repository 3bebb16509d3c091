"""The core itself: what it is, and which others there are."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator

from eru.core.app import Core
from eru.core.ops import info, registry
from eru.core.service.parts import mapped
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.routes import Call, Route, stream, unary


def routes(core: Core) -> list[Route]:
    async def about(request: pb.Empty, call: Call) -> pb.CoreInfo:
        said = info.core_info(core)
        return pb.CoreInfo(
            version=said.version,
            revison=said.revision,
            build_at=said.build_at,
            golang_version=said.runtime,
            os_arch=said.os_arch,
            identifier=said.identifier,
        )

    def watch(request: pb.Empty, call: Call) -> AsyncGenerator[pb.ServiceStatus, None]:
        interval_s = max(1, math.ceil(2 * core.settings.push_interval_s))

        def message(addresses: list[str]) -> pb.ServiceStatus:
            return pb.ServiceStatus(addresses=addresses, interval_in_second=interval_s)

        return mapped(registry.watch_cores(core), message)

    return [unary(rpc.Info, about), stream(rpc.WatchServiceStatus, watch)]
