"""What core believes to run here, and the engine does not have any more.

It was removed while no agent looked: no event told of it, no listing shows it,
and nobody else would ever correct its status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container

import structlog

from eru.agent.runtime import Runtime
from eru.lib.retry import Backoff
from eru.lib.world import World
from eru.model.errors import CoreUnreachable, EngineError, EngineMissing, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient

RETRY_FIRST_S = 1.0
RETRY_MOST_S = 30.0

_log = structlog.get_logger(__name__)


async def report_vanished(
    world: World, core: CoreClient, runtime: Runtime, nodename: str, seen: Container[str], timeout_s: float
) -> list[str]:
    """Report them as ended, once, when the first listing (`seen`) is there; their ids.

    Waits for core as long as it is away; gives up where core or engine refuse to tell.
    """
    backoff = Backoff(world, first_s=RETRY_FIRST_S, most_s=RETRY_MOST_S)
    while True:
        try:
            known = await core.unary(rpc.ListNodeWorkloads, pb.GetNodeOptions(nodename=nodename), timeout_s=timeout_s)
            doubtful = [each for each in known.workloads if each.status.running and each.id not in seen]
            gone = [each for each in doubtful if await _is_gone(runtime, each.id, timeout_s)]
            for each in gone:
                await _report(core, nodename, each, timeout_s)
            return [each.id for each in gone]
        except CoreUnreachable:
            await backoff.wait()
        except RemoteError as error:
            _log.info("workloads that vanished cannot be looked for", error=str(error))
            return []


async def _is_gone(runtime: Runtime, id: str, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await runtime.inspect(id)
    except EngineMissing:
        return True
    except (EngineError, TimeoutError):
        pass
    return False


async def _report(core: CoreClient, nodename: str, workload: pb.Workload, timeout_s: float) -> None:
    appname = workload.name.rsplit("_", 2)[0]
    status = pb.WorkloadStatus(id=workload.id, extension=workload.status.extension, appname=appname, nodename=nodename)
    await core.unary(rpc.SetWorkloadsStatus, pb.SetWorkloadsStatusOptions(status=[status]), timeout_s=timeout_s)
    _log.info("workload was removed while no agent looked", workload=workload.name, container=workload.id[:12])
