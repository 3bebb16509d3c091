"""One instance on one node, from create to the moment before it is recorded; shared by deploy, replace and lambda."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from eru.core.app import Core
from eru.core.calls import bounded
from eru.core.events import said
from eru.core.hooks import run_hooks
from eru.core.ledger import Operation
from eru.core.specs import Instance, create_spec, published, start_commands, workload_record
from eru.engine.contract import Created, CreateSpec, Engine
from eru.lib.log import trace_id
from eru.lib.tasks import shielded
from eru.lib.undo import UndoStack
from eru.model.deploy import DeploySpec
from eru.model.errors import EngineMissing, EngineOutcomeUnknown, EruError
from eru.model.results import Deployed
from eru.model.workloads import Workload


@dataclass(slots=True)
class Maker:
    """Makes instances of one request. An engine call whose outcome nobody knows is given to `leave`."""

    core: Core
    op: Operation
    spec: DeploySpec
    outputs: dict[str, bytes] = field(default_factory=dict)  # of hooks that failed an instance, by its name

    async def make(
        self, engine: Engine, one: Instance, undo: UndoStack, leave: Callable[[], None]
    ) -> tuple[Workload, Deployed]:
        """Create, files, start, hooks, inspect; every step's inverse is on `undo`. Raises EngineError."""
        core, spec, settings = self.core, self.spec, self.core.settings
        wanted = create_spec(spec, one, settings.identifier, trace_id())
        created = await shielded(self._create(engine, wanted, undo, leave))
        core.events.tell("created", name=one.name, id=created.id, node=one.nodename)
        for file in spec.files:
            await bounded(engine.send_file(created.id, file), settings.engine_slow_call_s, f"file {file.path}")
        await bounded(engine.start(created.id), settings.engine_call_s, f"start of {one.name}")
        core.events.tell("started", name=one.name, id=created.id, node=one.nodename)
        output = await self._hooks(engine, created.id, wanted, one.nodename)
        seen = await bounded(engine.inspect(created.id), settings.engine_call_s, f"inspect of {one.name}")
        workload = workload_record(spec, one, wanted, seen, created.labels, int(core.world.clock.now()))
        result = Deployed(
            podname=one.podname,
            nodename=one.nodename,
            id=seen.id,
            name=one.name,
            publish=published(seen.networks, spec.entrypoint.publish),
            networks=dict(seen.networks),
            hook=output,
            resources=one.grant,
        )
        return workload, result

    async def _create(self, engine: Engine, wanted: CreateSpec, undo: UndoStack, leave: Callable[[], None]) -> Created:
        """Never given up half-way: afterwards its inverse is known, or recovery is."""
        settings = self.core.settings
        self.op.identity.check()
        try:
            created = await bounded(engine.create(wanted), settings.engine_call_s, f"create of {wanted.name}")
        except EngineOutcomeUnknown:
            leave()
            raise

        async def remove() -> None:
            try:
                await bounded(engine.remove(created.id, force=True), settings.engine_slow_call_s, "remove")
            except EngineMissing:
                return
            except EruError:
                leave()
                raise

        undo.push(f"create {wanted.name}", remove)
        return created

    async def _hooks(self, engine: Engine, id: str, wanted: CreateSpec, nodename: str) -> bytes:
        commands, force = start_commands(self.spec)
        if not commands:
            return b""
        workload = Workload(
            id=id,
            name=wanted.name,
            podname="",
            nodename="",
            user=wanted.user,
            privileged=wanted.privileged,
            env=self.spec.env,
        )
        output, failure = await run_hooks(engine, workload, commands, self.core.settings, force=force)
        about = said(output)
        self.core.events.tell("hook", name=wanted.name, id=id, node=nodename, detail=about, error=failure)
        if failure is not None:
            self.outputs[wanted.name] = output
            raise failure
        return output
