"""Joins the main program of a running workload: its output from now on, and its input."""

from __future__ import annotations

from collections.abc import AsyncIterator

from eru.core.app import Core
from eru.core.ops.execute import ExecRequest, Output, carried
from eru.core.ops.reach import reach
from eru.core.ops.streams import closing
from eru.engine.contract import Capability
from eru.model.errors import InvalidInput


async def attach(core: Core, request: ExecRequest, inputs: AsyncIterator[bytes]) -> AsyncIterator[Output]:
    """Output as it comes (whole lines unless interactive), then the exit code. Leaving it ends nothing.

    Raises InvalidInput when the workload does not run, and what `reach` raises.
    """
    found = await reach(core, request.id, Capability.ATTACH)
    if not (await found.engine.inspect(found.workload.id)).running:
        raise InvalidInput(f"workload {found.workload.name} does not run, so there is nothing to attach to; start it")
    session = await found.engine.attach(found.workload.id, stdin=request.interactive, past=False)
    async with closing(carried(core, request, session, inputs)) as outputs:
        async for output in outputs:
            yield output
