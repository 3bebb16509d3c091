"""Engine calls with a time limit and an honest error when it passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar, cast

from eru.lib.tasks import shielded
from eru.model.errors import EngineOutcomeUnknown

T = TypeVar("T")


async def bounded(call: Coroutine[Any, Any, T], seconds: float, what: str) -> T:
    """The call's result; EngineOutcomeUnknown when it takes longer than `seconds`.

    A call that is answered without any waiting gets no timer: two thirds of
    what an engine call costs here when the engine itself costs nothing.
    """
    try:
        try:
            waited_for = call.send(None)
        except StopIteration as answered:
            return cast(T, answered.value)
        async with asyncio.timeout(seconds):
            return await _Begun(call, waited_for)
    except TimeoutError:
        raise EngineOutcomeUnknown(f"{what} was not answered within {seconds:g} s") from None


class _Begun(Awaitable[T]):
    """A coroutine that has been run up to its first wait, in the task that now waits on."""

    __slots__ = ("_call", "_waited_for")

    def __init__(self, call: Coroutine[Any, Any, T], waited_for: Any) -> None:
        self._call = call
        self._waited_for = waited_for

    def __await__(self) -> Generator[Any, Any, T]:
        call, waited_for = self._call, self._waited_for
        try:
            while True:
                try:
                    sent = yield waited_for
                except BaseException as error:  # noqa: BLE001 - whatever is thrown into the task is the call's to handle
                    waited_for = call.throw(error)
                else:
                    waited_for = call.send(sent)
        except StopIteration as answered:
            return cast(T, answered.value)
        finally:
            call.close()


async def to_the_end(call: Coroutine[Any, Any, T], seconds: float, what: str) -> T:
    """As `bounded`, and a caller that is cancelled meanwhile still waits for the answer first."""
    return await shielded(bounded(call, seconds, what))
