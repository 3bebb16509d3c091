"""Replace: a new workload takes over the place, the grant and, if wanted, networks and files of an old one.

The old one is stopped first and started again if the new one fails. Which of
the two counts is decided by one transaction (`Ledger.swap`); before it
recovery goes back to the old one, after it recovery removes the old one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from eru.core.app import Core
from eru.core.calls import bounded
from eru.core.hooks import run_hooks
from eru.core.ledger import Held, Operation, StoredWorkload
from eru.core.ops.archive import first_file
from eru.core.ops.instance import Maker
from eru.core.ops.remove import hold, release_hold
from eru.core.results import stream
from eru.core.specs import Instance, check_size, hook_commands
from eru.engine.contract import Engine, Inspection
from eru.lib.tasks import shielded
from eru.lib.undo import UndoStack
from eru.model.deploy import DeploySpec, FileToSend, ReplaceSpec
from eru.model.errors import EngineMissing, EruError, InvalidInput, OutcomeUnknown, Refused
from eru.model.intents import Verb
from eru.model.names import IDENT_LENGTH, check_entrypoint, check_name, workload_name
from eru.model.results import Deployed, Removed, Replaced
from eru.model.workloads import Workload
from eru.store.contract import range_all

_PARALLEL_MAX = 64
_ENGINE_NETWORKS = ("bridge", "host", "none")  # Docker takes no wish for an address in these

Tell = Callable[[Replaced], None]


def replace(core: Core, spec: ReplaceSpec) -> AsyncGenerator[Replaced, None]:
    """One result per old workload, in completion order; none for those that the filters leave alone.

    An unknown id is a result, too. Raises InvalidInput at once.
    """
    core.check_accepting()
    check_name("app name", spec.deploy.app)
    check_entrypoint(spec.deploy.entrypoint.name)
    check_size(spec.deploy)
    return stream(core.background, f"replace {spec.deploy.app}", lambda tell: _replace(core, spec, tell))


async def _replace(core: Core, spec: ReplaceSpec, tell: Tell) -> None:
    ids = list(dict.fromkeys(spec.ids)) or await _ids_of(core, spec.deploy)
    gate = asyncio.Semaphore(_PARALLEL_MAX)

    async def one(op: Operation, sequence: int, id: str) -> None:
        async with gate:
            run = _Replacement(core, op, spec, id, sequence)
            if (result := await run.run()) is not None:
                tell(result)

    async with core.operation("replace") as op, asyncio.TaskGroup() as group:
        for sequence, id in enumerate(ids):
            group.create_task(one(op, sequence, id))


async def _ids_of(core: Core, spec: DeploySpec) -> list[str]:
    """All workloads of the app's entrypoint, on the named nodes if any are named."""
    keys, entrypoint = core.keys, spec.entrypoint.name
    names = list(dict.fromkeys(spec.nodes.includes)) or [""]
    found: list[str] = []
    for name in names:
        prefix = keys.of_app(spec.app, entrypoint, name)
        items, _ = await range_all(core.store, prefix, keys_only=True)
        found.extend(item.key.rpartition("/")[2] for item in items)
    return found


@dataclass(slots=True)
class _Replacement:
    """One old workload and what becomes of it."""

    core: Core
    op: Operation
    spec: ReplaceSpec
    id: str
    sequence: int
    output: bytes = b""
    left: bool = False
    stopping: bool = False  # the old one's stop was asked for and may still be going on
    begun: Deployed | None = None  # the new one, as soon as the old one is touched
    deploy: DeploySpec = field(init=False)

    def __post_init__(self) -> None:
        self.deploy = self.spec.deploy

    async def run(self) -> Replaced | None:
        """The result, or None when the filters leave it alone. Raises nothing but CancelledError."""
        try:
            old = (await self.core.workloads([self.id]))[0].workload
            if not self._meant(old):
                return None
            return await self._run()
        except EruError as error:
            self.core.events.tell("failed", id=self.id, detail="replace", error=error)
            if self.begun is not None:
                self.begun.error = error
            return Replaced(create=self.begun, remove=Removed(id=self.id, hook=self.output, error=error), error=error)

    def _meant(self, old: Workload) -> bool:
        podname = self.deploy.nodes.podname
        if podname and podname != old.podname:
            return False
        return all(old.labels.get(name) == value for name, value in self.spec.filter_labels.items())

    async def _run(self) -> Replaced:
        core, op = self.core, self.op
        name = workload_name(self.deploy.app, self.deploy.entrypoint.name, core.world.letters(IDENT_LENGTH))
        held, stored = await hold(core, op, self.id, Verb.REPLACE, successor=name)
        try:
            engine = await core.engine_for(stored.workload.nodename)
            seen = await bounded(engine.inspect(self.id), core.settings.engine_call_s, "inspect")
            if not seen.running:
                held = await core.ledger.amend(op, held, running=False)
            await self._prepare(engine, stored.workload, seen)
        except BaseException:
            await shielded(release_hold(core, op, held))
            raise
        return await self._take_over(engine, held, stored, name, seen.running)

    async def _prepare(self, engine: Engine, old: Workload, seen: Inspection) -> None:
        """All that can fail before the old one is touched."""
        core = self.core
        if self.spec.network_inherit:
            if not seen.running:
                raise Refused(f"workload {self.id} does not run, so that its networks cannot be inherited")
            self.deploy = msgspec.structs.replace(self.deploy, networks=inherited(seen.networks))
        if not self.deploy.ignore_pull:
            await core.images.ensure(
                old.nodename, engine, self.deploy.image, self.deploy.app, self.deploy.entrypoint.name
            )
        elif not self.deploy.image:
            raise InvalidInput("image is empty")
        if self.spec.copy:
            copied = [await self._copied(engine, source, target) for source, target in self.spec.copy.items()]
            self.deploy = msgspec.structs.replace(self.deploy, files=[*self.deploy.files, *copied])

    async def _copied(self, engine: Engine, source: str, target: str) -> FileToSend:
        most = self.core.settings.copy_file_bytes_max
        chunks = engine.read_archive(self.id, source)
        limit_s = self.core.settings.engine_slow_call_s
        return await bounded(first_file(chunks, source, target, most), limit_s, f"read of {source}")

    async def _take_over(
        self, engine: Engine, held: Held, stored: StoredWorkload, name: str, was_running: bool
    ) -> Replaced:
        core, op, old = self.core, self.op, stored.workload
        one = Instance(name, old.podname, old.nodename, self.sequence, old.grant, old.engine_params, ancestor=old.id)
        self.begun = Deployed(podname=old.podname, nodename=old.nodename, name=name, resources=old.grant)
        maker = Maker(core, op, self.deploy)
        finished = False
        try:
            async with UndoStack() as undo:
                if was_running:
                    await self._hooks(engine, old, undo)
                    held = await shielded(core.ledger.amend(op, held, stopping=True))
                    await self._stop(engine, old)
                try:
                    workload, result = await maker.make(engine, one, undo, self._leave)
                finally:
                    self.begun.hook = maker.outputs.pop(name, b"")
                held = await shielded(self._swap(held, stored, workload, undo))
                finished = True
        finally:
            if not finished:
                if self.left:
                    op.left_behind = True
                else:
                    await shielded(release_hold(core, op, held))
        removed = await shielded(self._remove_old(engine, held, old))
        core.remapper.created(old.nodename, {workload.id: workload.grant})
        return Replaced(create=result, remove=removed)

    async def _hooks(self, engine: Engine, old: Workload, undo: UndoStack) -> None:
        """Before the stop; from here on the old one is started again if anything fails."""
        settings = self.core.settings

        async def start_again() -> None:
            try:
                self.op.identity.check()  # others may have replaced it by now
                if self.stopping:  # to its end, or it would end what is started now
                    await bounded(engine.stop(old.id), settings.engine_slow_call_s, f"stop of {old.name}")
                await bounded(engine.start(old.id), settings.engine_call_s, f"start of {old.name}")
            except EruError as error:
                self._leave()
                self.output += f"{error}\n".encode()
                raise

        undo.push(f"stop {old.name}", start_again)
        force = old.hook is not None and old.hook.force and not self.deploy.ignore_hook
        commands = hook_commands(old.hook, "before_stop")
        if commands:
            self.core.events.about("hook", old, "before stop")
        output, failure = await run_hooks(engine, old, commands, settings, force=force)
        self.output += output
        if failure is not None:
            raise failure

    async def _stop(self, engine: Engine, old: Workload) -> None:
        self.op.identity.check()
        self.core.events.about("stopping", old, "to be replaced")
        self.stopping = True
        await bounded(engine.stop(old.id), self.core.settings.engine_slow_call_s, f"stop of {old.name}")
        self.stopping = False

    async def _swap(self, held: Held, stored: StoredWorkload, workload: Workload, undo: UndoStack) -> Held:
        """From here on the new one counts."""
        try:
            held = await self.core.ledger.swap(self.op, held, stored, workload)
        except OutcomeUnknown:
            self._leave()
            undo.forget()
            raise
        undo.forget()
        self.core.events.about("recorded", workload, f"in place of {stored.workload.name}")
        self.core.events.about("replaced", stored.workload, f"by {workload.name}")
        return held

    async def _remove_old(self, engine: Engine, held: Held, old: Workload) -> Removed:
        core = self.core
        try:
            with contextlib.suppress(EngineMissing):
                await bounded(engine.remove(old.id, force=True), core.settings.engine_slow_call_s, "remove")
            await core.ledger.drop(self.op, held)
            core.events.about("removed", old)
        except EruError as error:
            self.op.left_behind = True
            return Removed(id=old.id, hook=self.output, error=error)
        return Removed(id=old.id, hook=self.output)

    def _leave(self) -> None:
        self.left = True


def inherited(networks: Mapping[str, str]) -> dict[str, str]:
    """The old one's networks for the new one; the engine's own networks give addresses out themselves."""
    return {name: "" if name in _ENGINE_NETWORKS else address for name, address in networks.items()}
