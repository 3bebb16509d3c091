"""Asking every core: events, and what a core is doing, are known only to each one itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from eru.cli.session import Session
from eru.lib.tasks import map_bounded
from eru.model.errors import EruError, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import parse_addresses

if TYPE_CHECKING:
    from eru.wire.channel import CoreClient

T = TypeVar("T")

ANNOUNCED_S = 2.0  # wait for the list of cores
CONNECT_S = 2.0  # a core that was announced may be reachable from other machines only
CORES_PARALLEL_MAX = 16  # asked at the same time
UNIMPLEMENTED = 12


class Answer(msgspec.Struct, Generic[T]):
    """What one core said: a value, or why there is none."""

    address: str
    value: T | None = None
    error: EruError | None = None


async def addresses(session: Session) -> list[str]:
    """The cores that were named, then those that they announce. Raises CoreUnreachable when none answers."""
    named, _ = parse_addresses([session.settings.eru])
    found = dict.fromkeys(named)
    try:
        async with asyncio.timeout(ANNOUNCED_S), aclosing(session.stream(rpc.WatchServiceStatus, pb.Empty())) as told:
            async for status in told:
                found |= dict.fromkeys(status.addresses)
                break
    except TimeoutError:
        pass  # a core that keeps it to itself; those that were named are asked
    except RemoteError as error:
        if error.code != UNIMPLEMENTED:
            raise
    return list(found)


async def ask_each(
    session: Session, ask: Callable[[CoreClient], Awaitable[T]], *, limit_s: float, where: list[str] | None = None
) -> list[Answer[T]]:
    """One answer per core, in the order of addresses; nothing is raised for a core that fails."""

    async def one(address: str) -> Answer[T]:
        try:
            async with asyncio.timeout(limit_s), session.client(address, connect_timeout_s=CONNECT_S) as client:
                return Answer(address, value=await ask(client))
        except TimeoutError:
            return Answer(address, error=EruError(f"core at {address} did not answer within {limit_s:g}s"))
        except EruError as error:
            return Answer(address, error=error)

    return await map_bounded(where or await addresses(session), one, CORES_PARALLEL_MAX)


def unimplemented(answers: list[Answer[T]]) -> bool:
    """Whether every core that answered is one that does not know the call."""
    known = [each for each in answers if each.value is not None]
    return not known and any(
        isinstance(each.error, RemoteError) and each.error.code == UNIMPLEMENTED for each in answers
    )
