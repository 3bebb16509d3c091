"""All or nothing: the instances of one deploy wait for each other and share one fate (`core.groups`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from eru.core.app import Core
from eru.core.groups import Fate, commit_group, forget_group
from eru.core.ledger import Held, Operation
from eru.core.ops.reserve import Placed
from eru.lib.tasks import shielded
from eru.lib.undo import UndoStack
from eru.model.errors import EruError, OutcomeUnknown, Refused
from eru.model.results import Deployed
from eru.model.workloads import Workload

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Made:
    """An instance that runs, from just before its record on."""

    placed: Placed
    workload: Workload
    result: Deployed
    held: Held | None = None  # the intent that stays after the record, if one was asked for


@dataclass(slots=True)
class Together:
    """Of `total` instances each comes to `wait` when it runs; who comes last decides for all."""

    core: Core
    op: Operation
    fate: Fate
    total: int = 0
    failed: bool = False
    _made: list[Made] = field(default_factory=list)
    _deciding: bool = False
    _committed: bool = False
    _unknown: EruError | None = None
    _decided: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, made: Made, undo: UndoStack, leave: Callable[[], None]) -> None:
        """Returns when all are to be; afterwards, and when nobody knows, it is not undone here.

        Raises Refused when another one failed, OutcomeUnknown.
        """
        self._made.append(made)
        try:
            if len(self._made) == self.total and not self.failed:
                self._deciding = True
                await shielded(self._decide())
            await self._decided.wait()
        except asyncio.CancelledError:
            if not self._deciding:
                self.fail()
            else:
                await shielded(self._end_of_it())
            if self._committed or self._unknown is not None:
                undo.forget()
                leave()
            raise
        if self._unknown is not None:
            undo.forget()
            leave()
            raise OutcomeUnknown(f"{made.workload.name} runs, but {self._unknown}") from self._unknown
        if not self._committed:
            raise given_up()
        undo.forget()

    def fail(self) -> None:
        """One of them will not be: none will."""
        if not self._deciding:
            self.failed = True
            self._decided.set()

    async def close(self) -> None:
        """The operation has ended: what is left of the group keeps recovery from asking twice."""
        if self.op.left_behind and (self._committed or self._unknown is not None):
            return  # recovery asks the group what to do with what was left
        with contextlib.suppress(EruError):  # recovery sweeps it later
            await forget_group(self.core, self.fate.key, self.fate.revision)

    async def _end_of_it(self) -> None:
        await self._decided.wait()

    async def _decide(self) -> None:
        core, op = self.core, self.op
        try:
            async with asyncio.TaskGroup() as group:
                for made in self._made:
                    group.create_task(self._prepare(made))
            try:
                await commit_group(core, op, self.fate)
            except OutcomeUnknown as error:
                self._unknown = error
            else:
                self._committed = True
        except (EruError, BaseExceptionGroup) as error:
            _log.info("all or nothing: nothing", op=op.id, error=str(error))
        finally:
            self.failed = not self._committed
            self._decided.set()

    async def _prepare(self, made: Made) -> None:
        """Its intent takes up what will be recorded."""
        one = made.placed
        held = await self.core.ledger.amend(self.op, one.reserved.held, record=made.workload)
        one.reserved = replace(one.reserved, held=held)


def given_up() -> Refused:
    """For the instances that could have been."""
    return Refused("given up because another instance of this deploy failed")
