"""Small parts that all handlers share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

from eru.model.errors import EruError
from eru.wire.status import sentence_of

A = TypeVar("A")
B = TypeVar("B")


async def mapped(items: AsyncIterator[A], convert: Callable[[A], B]) -> AsyncGenerator[B, None]:
    """Each item as a message. When the reader leaves, so does the operation behind `items`."""
    try:
        async for item in items:
            yield convert(item)
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


def error_text(error: EruError | None) -> str:
    """For the `error` field of a message; "" when all is well."""
    return sentence_of(error) if error is not None else ""
