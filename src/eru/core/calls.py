"""Engine calls with a time limit and an honest error when it passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from eru.lib.tasks import shielded
from eru.model.errors import EngineOutcomeUnknown

T = TypeVar("T")


async def bounded(call: Awaitable[T], seconds: float, what: str) -> T:
    """The call's result; EngineOutcomeUnknown when it takes longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise EngineOutcomeUnknown(f"{what} was not answered within {seconds:g} s") from None


async def to_the_end(call: Coroutine[Any, Any, T], seconds: float, what: str) -> T:
    """As `bounded`, and a caller that is cancelled meanwhile still waits for the answer first."""
    return await shielded(bounded(call, seconds, what))
