"""Finds engine objects that nobody will ever ask for: created by an engine long after its core had died.

Recovery settles a create twice over a minute and then lets go of it. What an
engine brings forth after that has no intent and no record. It is told apart
from everything else that carries this cluster's labels: a workload that was
dissociated has run, and one that is being made right now has an intent (its
own, or that of the workload it replaces). So only what was *never started*,
belongs to no intent in a view that is newer than the look at the engine, has
no record, and is still there at a later look, is removed.
"""

from __future__ import annotations

import asyncio

import structlog

from eru.core.parts import Parts
from eru.engine.contract import Engine
from eru.model.errors import EngineMissing, EruError, InvalidInput
from eru.model.names import parse_workload_name
from eru.model.workloads import LABEL_COREID, LABEL_ERU, LABEL_NODENAME

_log = structlog.get_logger(__name__)

SUSPECTS_MAX = 10_000  # remembered between two looks
_STEP_LEAST_S = 0.05  # between two nodes


class Orphans:
    """Walks from node to node; one core of the cluster does it (`Watchdog`)."""

    def __init__(self, core: Parts) -> None:
        self._core = core
        self._suspects: dict[tuple[str, str], float] = {}  # (node, id) -> when first seen
        self.removed = 0

    async def run(self) -> None:
        """Round after round, for ever."""
        core = self._core
        while True:
            names = [node.name for node in core.fleet.view.nodes()]
            pause_s = max(core.settings.orphan_round_s / max(len(names), 1), _STEP_LEAST_S)
            for name in names or [""]:
                try:
                    if name:
                        await self.look(name)
                except (EruError, TimeoutError) as error:
                    _log.debug("no look for orphans", node=name, error=str(error))
                await core.world.clock.sleep(core.world.jitter(pause_s))

    async def look(self, nodename: str) -> None:
        """One node. Raises EruError, TimeoutError."""
        core, settings = self._core, self._core.settings
        engine = await core.engine_for(nodename)
        ours = {LABEL_ERU: "", LABEL_COREID: settings.identifier, LABEL_NODENAME: nodename}
        async with asyncio.timeout(settings.engine_call_s):
            rows = await engine.find(ours)
        still = {row.id: row.name for row in rows if not row.running and _is_ours(row.name)}
        recorded = await core.store.get_many([core.keys.workload(id) for id in still])
        suspects = {id: name for id, name in still.items() if core.keys.workload(id) not in recorded}
        found = {id: name for id, name in suspects.items() if await self._never_ran(engine, id)}
        now = core.world.clock.monotonic()
        if found:
            await core.fleet.fresh()
            intents = [one.intent for one in core.fleet.view.intents.values() if one.intent.nodename == nodename]
            busy = {intent.name for intent in intents} | {intent.successor for intent in intents}
            for id in [id for id, name in found.items() if name in busy]:
                del found[id]
        for node, id in list(self._suspects):
            if node == nodename and id not in found:
                del self._suspects[node, id]
        for id, name in found.items():
            since = self._suspects.get((nodename, id))
            if since is None:
                if len(self._suspects) < SUSPECTS_MAX:
                    self._suspects[nodename, id] = now
            elif now - since >= settings.orphan_round_s / 2:
                await self._remove(engine, nodename, id, name)

    async def _never_ran(self, engine: Engine, id: str) -> bool:
        try:
            async with asyncio.timeout(self._core.settings.engine_call_s):
                seen = await engine.inspect(id)
        except EngineMissing:
            return False
        return not seen.running and not seen.started_at and not seen.finished_at

    async def _remove(self, engine: Engine, nodename: str, id: str, name: str) -> None:
        """Without force: what runs by now is nobody's to remove."""
        async with asyncio.timeout(self._core.settings.engine_slow_call_s):
            await engine.remove(id, force=False)
        del self._suspects[nodename, id]
        self.removed += 1
        why = "an engine finished it long after the core that asked for it had died"
        self._core.events.tell("recovered", name=name, id=id, node=nodename, detail=why)
        _log.warning("orphan removed", node=nodename, workload=name, id=id)


def _is_ours(name: str) -> bool:
    try:
        parse_workload_name(name)
    except InvalidInput:
        return False
    return True
