"""Calls that only one kind of engine knows, passed through."""

from __future__ import annotations

from eru.core.app import Core
from eru.core.calls import bounded
from eru.core.ops.reach import reach
from eru.engine.contract import Capability
from eru.model.errors import Conflict, InvalidInput


async def raw_engine(core: Core, id: str, op: str, params: bytes, *, ignore_lock: bool) -> bytes:
    """The engine's answer. Waits for other operations on the workload unless `ignore_lock`.

    Raises InvalidInput, NotFound, Conflict, EngineError (NotSupported among them).
    """
    if not id:
        raise InvalidInput("workload ID is empty")
    if not op:
        raise InvalidInput("raw engine op is empty")
    found = await reach(core, id, Capability.RAW)
    name, nodename = found.workload.name, found.workload.nodename
    if not ignore_lock and not await core.fleet.intent_gone(nodename, name, core.settings.hold_wait_s):
        raise Conflict(f"workload {id} is being changed by another operation, try again")
    return await bounded(found.engine.raw(id, op, params), core.settings.engine_slow_call_s, f"raw call {op} on {id}")
