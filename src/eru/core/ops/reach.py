"""From a workload's id to its record and the engine it lives on."""

from __future__ import annotations

from dataclasses import dataclass

from eru.core.app import Core
from eru.engine.contract import Capability, Engine
from eru.model.errors import InvalidInput, NotFound, NotSupported
from eru.model.workloads import Workload

ID_CHARS_MAX = 128


@dataclass(frozen=True, slots=True)
class Reached:
    """A workload and its node's engine."""

    workload: Workload
    engine: Engine


async def reach(core: Core, id: str, need: Capability) -> Reached:
    """Raises InvalidInput, NotFound, and NotSupported when the engine lacks `need`."""
    if not id:
        raise InvalidInput("workload ID is empty")
    if len(id) > ID_CHARS_MAX:
        raise NotFound(f"workload {id[:64]!r}... does not exist")
    [stored] = await core.workloads([id])
    await core.fleet.node_surely(stored.workload.nodename)
    engine = await core.engine_for(stored.workload.nodename)
    check(engine, need, stored.workload.nodename)
    return Reached(stored.workload, engine)


def check(engine: Engine, need: Capability, nodename: str) -> None:
    """Raises NotSupported naming the engine and what it lacks."""
    if need not in engine.capabilities:
        raise NotSupported(f"engine {engine.type} of node {nodename} cannot do this: it has no {need.value}")
