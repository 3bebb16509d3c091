"""`eru down`: stop agent and core; with purge, remove everything that `eru up` and its workloads made."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass

from eru.config import CoreConfig, load_core
from eru.engine.contract import Engine
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool
from eru.lib.tasks import map_bounded
from eru.lib.world import World
from eru.model.errors import EngineError, EngineMissing, EruError
from eru.model.workloads import LABEL_COREID, LABEL_ERU
from eru.roots import firewall, process
from eru.roots.files import written_engine
from eru.roots.state import State

STOP_WAIT_S = 40.0
REMOVE_PARALLEL = 8

Say = Callable[[str], None]


@dataclass(slots=True)
class Down:
    """One run. `say` gets a line per step."""

    world: World
    state: State
    purge: bool
    say: Say

    async def run(self) -> None:
        """Raises EruError with one sentence when something could not be removed."""
        for what, pidfile in (("agent", self.state.agent_pid), ("core", self.state.core_pid)):
            began = self.world.clock.monotonic()
            if await process.stop(self.world, pidfile, what, STOP_WAIT_S):
                self.say(f"{what}: stopped in {self.world.clock.monotonic() - began:.1f} s")
            else:
                self.say(f"{what}: not running")
        if not self.purge:
            return
        if self._was_set_up():
            await self._engine_objects()
        await self._own_dockerd()
        self._files()

    async def _engine_objects(self) -> None:
        """Containers and images that belong to this cluster."""
        began = self.world.clock.monotonic()
        config = load_core(self.state.core_config).settings
        pool = EnginePool(self.world, engine_factories())
        try:
            async with pool.private(written_engine(self.state)) as engine:
                containers = await self._containers(engine, config)
                images = await self._images(engine)
        except EngineError as error:
            raise type(error)(f"containers could not be removed, {self.state.place} is kept: {error}") from error
        finally:
            await pool.close()
        self.say(f"containers: {containers} removed, images: {images} removed{self._took(began)}")

    async def _containers(self, engine: Engine, config: CoreConfig) -> int:
        found = await engine.find({LABEL_ERU: "", LABEL_COREID: config.identifier})

        async def remove(id: str) -> None:
            with contextlib.suppress(EngineMissing):
                await engine.remove(id, force=True)

        await map_bounded([each.id for each in found], remove, REMOVE_PARALLEL)
        return len(found)

    async def _images(self, engine: Engine) -> int:
        removed = 0
        for image in self._made_images():
            with contextlib.suppress(EngineMissing):
                await engine.remove_image(image, force=True)
                removed += 1
        return removed

    def _made_images(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return self.state.images.read_text().split()
        return []

    def _was_set_up(self) -> bool:
        return self.state.core_config.exists()

    async def _own_dockerd(self) -> None:
        """The Docker Engine, if it was started for this cluster."""
        pid = dockerd_of(self.state)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        end = self.world.clock.monotonic() + STOP_WAIT_S
        while dockerd_of(self.state) is not None:
            if self.world.clock.monotonic() > end:
                raise EruError(f"the Docker Engine (process {pid}) does not end, {self.state.place} is kept")
            await self.world.clock.sleep(process.POLL_S)
        firewall.forget_docker()
        self.say(f"Docker Engine: stopped (process {pid}), it was started for this cluster")

    def _files(self) -> None:
        """Only what was made here: the directory may be one that holds other things too."""
        place = self.state.place
        if not place.exists():
            self.say(f"{place}: not there")
            return
        for path in self.state.everything():
            try:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise EruError(f"{error.filename or path} could not be removed: {error.strerror}") from error
        with contextlib.suppress(OSError):
            place.rmdir()
        self.say(f"{place}: removed")

    def _took(self, began: float) -> str:
        return f" in {self.world.clock.monotonic() - began:.1f} s"


def dockerd_of(state: State) -> int | None:
    """The id of the dockerd that was started for this cluster, if it still runs."""
    try:
        pid = int(state.dockerd_pid.read_text())
        with open(f"/proc/{pid}/comm") as comm:
            return pid if comm.read().strip() == "dockerd" else None
    except (OSError, ValueError):
        return None
