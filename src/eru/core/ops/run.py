"""Run and wait (lambda): deploy, pass the output on, tell the exit code, remove.

Whatever happens, nothing stays: the intent that replaces the deploy's own in
the record's transaction tells any core to remove the workload when it has
ended, and the client's going away removes it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass

import msgspec
import structlog

from eru.core.accounts import Requests, parse_requests
from eru.core.app import Core
from eru.core.ledger import Held, Operation
from eru.core.ops.deploy import Deploy
from eru.core.ops.execute import Output, exited, feed, lines
from eru.core.ops.remove import finish_remove
from eru.core.ops.reserve import Placed, unwrapped
from eru.core.ops.together import Made
from eru.core.specs import check_deploy
from eru.engine.contract import Chunk, Engine
from eru.lib.tasks import shielded, task_owner
from eru.model.deploy import DeploySpec, Strategy
from eru.model.errors import Conflict, EruError, InvalidInput, NotFound
from eru.model.intents import Intent, Verb
from eru.model.results import Deployed
from eru.model.workloads import Workload

_log = structlog.get_logger(__name__)

_QUEUE_MAX = 256  # pieces of output waiting for the client; the engines are read no further then


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`asynchronous`: answer after the ids; end it after `timeout_s` (0: the core's default)."""

    spec: DeploySpec
    asynchronous: bool = False
    timeout_s: float = 0.0


class Started(msgspec.Struct, frozen=True):
    """One instance was made; `id` is empty for one that was not."""

    id: str
    error: EruError | None = None


class Failed(msgspec.Struct, frozen=True):
    """The core could not do its part for one instance."""

    id: str
    error: str


Said = Started | Failed | Output


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


def run_and_wait(core: Core, request: RunRequest, inputs: AsyncIterator[bytes] | None) -> AsyncGenerator[Said, None]:
    """First one `Started` per instance, then output as it comes and each exit code.

    `inputs`: the client's input, for a spec with `open_stdin`. Raises
    InvalidInput at once.
    """
    core.check_accepting()
    spec = msgspec.structs.replace(request.spec, lambda_=True)
    check_deploy(spec, core.settings)
    if spec.open_stdin and (spec.count != 1 or spec.strategy is not Strategy.AUTO):
        raise InvalidInput("count must be 1 if OpenStdin is true, and the strategy AUTO")
    run = _Run(core, spec, parse_requests(core.kinds, spec.resources), request, inputs)
    return run.stream()


class _Run:
    """One call. The work is a task of the core; the client reads a bounded queue."""

    def __init__(
        self,
        core: Core,
        spec: DeploySpec,
        requests: Requests,
        request: RunRequest,
        inputs: AsyncIterator[bytes] | None,
    ) -> None:
        self._core = core
        self._spec = spec
        self._requests = requests
        self._request = request
        self._inputs = inputs
        self._queue: asyncio.Queue[Said | _End] = asyncio.Queue(_QUEUE_MAX)
        self._detached = False
        limit_s = request.timeout_s or core.settings.operation_s
        # Of a synchronous one only recovery looks at it: how long it may go on without its core.
        self._deadline = core.world.clock.now() + limit_s

    async def stream(self) -> AsyncGenerator[Said, None]:
        """What the client hears."""
        task = self._core.background.start(f"run {self._spec.app}", self._guarded())
        try:
            while not isinstance(item := await self._queue.get(), _End):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            if not task.done() and not self._detached:
                task.cancel()

    async def _guarded(self) -> None:
        try:
            await self._run()
        except (BaseExceptionGroup, EruError) as error:
            cause = unwrapped(error)
            await self._say(_End(cause))
            if not isinstance(cause, EruError):
                raise
        else:
            await self._say(_End())

    async def _run(self) -> None:
        async with self._core.operation("lambda") as op:
            deploy = Deploy(self._core, op, self._spec, self._requests, lambda result: None, keep=self._keep(op))
            failed: list[Deployed] = []
            deploy.tell = lambda result: None if result.success else failed.append(result)
            try:
                await deploy.run()
                for result in failed:
                    await self._say(Started("", result.error))
                for made in deploy.recorded:
                    await self._say(Started(made.workload.id))
                if self._request.asynchronous:
                    self._detached = True
                    await self._queue.put(_End())
                await self._follow_all(op, deploy.recorded)
            finally:
                # Those whose following never began, because the client left before.
                for made in deploy.recorded:
                    if made.held is not None:
                        await shielded(self._remove(op, made))

    def _keep(self, op: Operation) -> Callable[[Placed, Workload], Intent]:
        def keep(placed: Placed, workload: Workload) -> Intent:
            return msgspec.structs.replace(
                placed.reserved.held.intent,
                verb=Verb.LAMBDA,
                id=workload.id,
                counted=False,
                force=True,
                deadline=self._deadline,
            )

        return keep

    # One instance.

    async def _follow_all(self, op: Operation, recorded: list[Made]) -> None:
        async with asyncio.TaskGroup() as group:
            for made in recorded:
                group.create_task(self._follow(op, made))

    async def _follow(self, op: Operation, made: Made) -> None:
        """Output, exit code, removal."""
        id = made.workload.id
        try:
            left_s = max(self._deadline - self._core.world.clock.now(), 0.0) if self._request.asynchronous else None
            async with asyncio.timeout(left_s):
                engine = await self._core.engine_for(made.workload.nodename)
                await self._pass_on(engine, id)
                code = await engine.wait(id)
            self._core.events.about("stopped", made.workload, f"ended with exit code {code}")
            await self._say(exited(id, code))
        except TimeoutError:
            await self._say(Failed(id, "Wait workload: it was still running when its time was over"))
        except EruError as error:
            await self._say(Failed(id, f"Wait workload {id}: {error}"))
        finally:
            await shielded(self._remove(op, made))

    async def _pass_on(self, engine: Engine, id: str) -> None:
        if self._spec.open_stdin and self._inputs is not None:
            await self._attach(engine, id, self._inputs)
            return
        try:
            await self._lines(id, engine.logs(id, follow=True))
        except EruError as error:
            await self._say(Failed(id, f"Fetch log for workload {id}: {error}"))

    async def _attach(self, engine: Engine, id: str, inputs: AsyncIterator[bytes]) -> None:
        try:
            session = await engine.attach(id, stdin=True)
        except EruError as error:
            await self._say(Failed(id, f"Attach to workload {id}: {error}"))
            return
        try:
            async with task_owner("run input") as tasks:
                tasks.start("feed", feed(session, inputs, plain=not self._spec.tty))
                async for chunk in session:
                    await self._say(Output(id=id, data=chunk.data, stream=chunk.stream))
        finally:
            await session.close()

    async def _lines(self, id: str, chunks: AsyncIterator[Chunk]) -> None:
        async for chunk in lines(chunks):
            await self._say(Output(id=id, data=chunk.data, stream=chunk.stream))

    async def _remove(self, op: Operation, made: Made) -> None:
        held, made.held = made.held, None
        if held is None:
            return
        try:
            await remove_lambda(self._core, op, held, made.workload)
        except EruError as error:
            op.left_behind = True
            _log.warning("lambda is removed later", workload=made.workload.id, error=str(error))

    async def _say(self, said: Said | _End) -> None:
        """To the client, or to the log when nobody listens any more."""
        if not self._detached:
            await self._queue.put(said)
        elif isinstance(said, Output):
            _log.info("lambda output", workload=said.id, line=said.data.decode(errors="replace").rstrip())
        elif isinstance(said, Failed):
            _log.warning("lambda failed", workload=said.id, error=said.error)


async def remove_lambda(core: Core, op: Operation, held: Held, workload: Workload) -> None:
    """Remove a workload that a lambda left; nothing to do when somebody else has removed it."""
    try:
        stored = (await core.workloads([workload.id]))[0]
        held = await core.ledger.amend(op, held, verb=Verb.REMOVE, force=True)
    except NotFound:
        return
    except Conflict:
        return  # taken over by a remove
    await finish_remove(core, op, held, stored, force=True, give_up=False)
