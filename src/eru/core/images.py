"""Makes an image present on a node before workloads are created from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from eru.core.events import Events, Kind
from eru.engine.contract import Engine
from eru.lib.tasks import TaskOwner
from eru.model.errors import EngineError, EngineRefused, InvalidInput

_log = structlog.get_logger(__name__)


class Images:
    """One pull per node and image at a time; everybody else waits for its result."""

    def __init__(self, tasks: TaskOwner, slow_call_s: float, events: Events) -> None:
        self._tasks = tasks
        self._slow_call_s = slow_call_s
        self._events = events
        self._running: dict[tuple[str, str], asyncio.Task[EngineError | None]] = {}

    async def ensure(self, nodename: str, engine: Engine, image: str, app: str = "", entrypoint: str = "") -> None:
        """Pull unless the node has what the registry has.

        A local image whose registry does not answer (or that has none) is
        used as it is. Raises EngineError, also for failures that are reported
        inside the progress of a pull. `app`, `entrypoint`: whom it is for, in the events.
        """
        if not image:
            raise InvalidInput("image is empty")
        key = (nodename, image)
        task = self._running.get(key)

        def pulling(kind: Kind) -> None:
            self._events.tell(kind, app=app, entrypoint=entrypoint, node=nodename, detail=image)

        if task is None:
            task = self._tasks.start(f"image {image} on {nodename}", self._quiet(engine, image, pulling))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        error = await asyncio.shield(task)
        if error is not None:
            raise type(error)(f"image {image} on node {nodename}: {error}")

    async def _quiet(self, engine: Engine, image: str, tell: Callable[[Kind], None]) -> EngineError | None:
        try:
            async with asyncio.timeout(self._slow_call_s):
                await _ensure(engine, image, tell)
        except EngineError as error:
            return error
        except TimeoutError:
            return EngineRefused(f"it could not be made present within {self._slow_call_s:g} s")
        return None


async def _ensure(engine: Engine, image: str, tell: Callable[[Kind], None]) -> None:
    here = await engine.local_digests(image)
    if here:
        try:
            wanted = await engine.remote_digest(image)
        except EngineError as error:
            _log.info("registry does not answer, the local image is used", image=image, error=str(error))
            return
        if wanted in here or wanted.rpartition("@")[2] in {digest.rpartition("@")[2] for digest in here}:
            return
    tell("pulling")
    async for progress in engine.pull(image):
        if progress.error:
            raise EngineRefused(f"cannot be pulled: {progress.error}")
    tell("pulled")
