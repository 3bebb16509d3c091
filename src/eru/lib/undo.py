"""The inverse of each step taken, run backwards when a later step fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import structlog

from eru.lib.tasks import shielded

_log = structlog.get_logger(__name__)


class UndoStack:
    """Collects inverses; runs them newest first when the block fails or is cancelled.

    An inverse that fails itself is logged and does not stop the older ones:
    what it leaves is found by recovery through the intent of the operation.
    """

    def __init__(self) -> None:
        self._inverses: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    def push(self, what: str, inverse: Callable[[], Awaitable[object]]) -> None:
        """Remember how to take back the step just done."""
        self._inverses.append((what, inverse))

    def forget(self) -> None:
        """All steps have become permanent."""
        self._inverses.clear()

    async def run(self) -> list[str]:
        """Take back everything, newest first; returns what could not be taken back."""
        failed = []
        while self._inverses:
            what, inverse = self._inverses.pop()
            try:
                await inverse()
            except Exception as error:  # noqa: BLE001 - an inverse may fail in any way; recovery finds the rest
                failed.append(f"{what}: {error}")
                _log.warning("undo failed", step=what, error=str(error))
        return failed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            await shielded(self.run())
        self.forget()
