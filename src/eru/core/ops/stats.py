"""What workloads use at this moment, asked of their engines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from eru.core.app import Core
from eru.core.calls import bounded
from eru.core.ops.reach import check
from eru.core.ops.workloads import BATCH, list_workloads, node_workloads
from eru.engine.contract import Capability, Figures
from eru.lib.tasks import map_bounded
from eru.model.errors import EruError, InvalidInput
from eru.model.names import parse_workload_name
from eru.model.requests import WorkloadFilter
from eru.model.workloads import Workload

ASKED_PARALLEL_MAX = 64  # engine calls of one request in flight
FIGURES_S = 10.0  # an engine that takes longer is told as an error of that workload


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """`figures` None: `error` says why."""

    workload: Workload
    figures: Figures | None = None
    error: str = ""


async def stats(core: Core, wanted: WorkloadFilter, ids: Sequence[str]) -> AsyncIterator[Measured]:
    """In the order of listings; a workload whose engine fails has an error. Raises InvalidInput, NotFound."""
    waiting: list[Workload] = []
    async for workload in _matching(core, wanted, ids):
        waiting.append(workload)
        if len(waiting) == BATCH:
            for measured in await _measure(core, waiting):
                yield measured
            waiting = []
    for measured in await _measure(core, waiting):
        yield measured


async def _matching(core: Core, wanted: WorkloadFilter, ids: Sequence[str]) -> AsyncIterator[Workload]:
    if wanted.entrypoint and not wanted.appname:
        raise InvalidInput(f"entrypoint {wanted.entrypoint!r} is given without an app name")
    if ids:
        found = [stored.workload for stored in await core.workloads(ids)]
    elif wanted.nodename:
        found = [seen.workload for seen in await node_workloads(core, wanted.nodename, {})]
    else:
        async for seen in list_workloads(core, wanted):
            yield seen.workload
        return
    for workload in found:
        if _matches(workload, wanted):
            yield workload


def _matches(workload: Workload, wanted: WorkloadFilter) -> bool:
    app, entrypoint, _ = parse_workload_name(workload.name)
    pairs = ((wanted.appname, app), (wanted.entrypoint, entrypoint), (wanted.nodename, workload.nodename))
    return all(asked in ("", given) for asked, given in pairs)


async def _measure(core: Core, workloads: Sequence[Workload]) -> list[Measured]:
    async def one(workload: Workload) -> Measured:
        try:
            engine = await core.engine_for(workload.nodename)
            check(engine, Capability.FIGURES, workload.nodename)
            figures = await bounded(engine.figures(workload.id), FIGURES_S, f"figures of {workload.id}")
        except EruError as error:
            return Measured(workload=workload, error=str(error))
        return Measured(workload=workload, figures=figures)

    return await map_bounded(workloads, one, ASKED_PARALLEL_MAX)
