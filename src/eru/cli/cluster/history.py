"""What happened, as all cores together saw it: asked of each, merged by time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from eru.cli.cluster.cores import UNIMPLEMENTED, addresses, ask_each, unimplemented
from eru.cli.session import Session
from eru.cli.show.times import NS
from eru.lib.retry import Backoff
from eru.lib.tasks import task_owner
from eru.model.errors import CoreUnreachable, EruError, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

if TYPE_CHECKING:
    from eru.wire.channel import CoreClient

ASK_S = 10.0  # for what one core remembers
SAME_S = 5.0  # cores that see the same status or heartbeat do so within this
ORDER_S = 0.3  # how long a followed event waits for an older one of another core
WAITING_MAX = 10_000  # followed events that are not printed yet
REMEMBERED_MAX = 20_000  # events known not to repeat
_SEEN_BY_ALL = frozenset(("healthy", "unhealthy", "running", "down", "node-up", "node-down"))


class NoEvents(Exception):
    """No core that answers keeps events: published ones do not."""


async def past(session: Session, asked: v1.EventsRequest) -> list[v1.Event]:
    """What all cores remember, oldest first. Raises NoEvents, and the first core's error when none answers."""

    async def ask(core: CoreClient) -> list[v1.Event]:
        async with aclosing(core.stream(rpc.Events, asked)) as events:
            return [event async for event in events]

    answers = await ask_each(session, ask, limit_s=ASK_S)
    if unimplemented(answers):
        raise NoEvents
    if all(each.value is None for each in answers):
        raise answers[0].error or EruError("no core answers")
    for each in answers:
        away = isinstance(each.error, CoreUnreachable)
        if isinstance(each.error, RemoteError) and not away and each.error.code != UNIMPLEMENTED:
            raise each.error
        if each.error is not None:
            session.talk.warn(f"without what core {each.address} saw: {each.error}")
    found = merged(event for each in answers for event in each.value or [])
    return found[-asked.limit :] if asked.limit > 0 else found


def merged(events: Iterable[v1.Event]) -> list[v1.Event]:
    """By time, each once: what every core sees (reports of agents) is kept as the first one saw it."""
    out: list[v1.Event] = []
    known = Known()
    for event in sorted(events, key=lambda each: (each.time_ns, each.id, each.kind)):
        if known.new(event):
            out.append(event)
    return out


class Known:
    """Events that were told already."""

    def __init__(self) -> None:
        self._whole: dict[bytes, None] = {}
        self._shared: dict[tuple[str, str, str], int] = {}

    def new(self, event: v1.Event) -> bool:
        """Whether it was not told yet; from now on it was."""
        whole = event.SerializeToString(deterministic=True)
        if whole in self._whole:
            return False
        self._whole[whole] = None
        if len(self._whole) > REMEMBERED_MAX:
            del self._whole[next(iter(self._whole))]
        if event.kind not in _SEEN_BY_ALL:
            return True
        place = (event.kind, event.id, event.nodename)
        before = self._shared.pop(place, 0)
        self._shared[place] = event.time_ns
        if len(self._shared) > REMEMBERED_MAX:
            del self._shared[next(iter(self._shared))]
        return abs(event.time_ns - before) > SAME_S * NS


async def follow(session: Session, asked: v1.EventsRequest, told: Sequence[v1.Event]) -> AsyncIterator[v1.Event]:
    """What happens from now on at all cores, in order as far as it comes in time; `told` is not repeated."""
    known = Known()
    for event in told:
        known.new(event)
    start_ns = told[-1].time_ns if told else asked.since_ns or session.world.clock.now_ns()
    queue: asyncio.Queue[v1.Event] = asyncio.Queue(WAITING_MAX)
    async with task_owner("events") as owner:
        for address in await addresses(session):
            wanted = v1.EventsRequest()
            wanted.CopyFrom(asked)
            wanted.since_ns, wanted.limit, wanted.follow = start_ns, 0, True
            owner.start(address, _read(session, address, wanted, queue))
        while True:
            batch = [await queue.get()]
            await session.world.clock.sleep(ORDER_S)
            while not queue.empty():
                batch.append(queue.get_nowait())
            for event in sorted(batch, key=lambda each: each.time_ns):
                if known.new(event):
                    yield event


async def _read(session: Session, address: str, asked: v1.EventsRequest, queue: asyncio.Queue[v1.Event]) -> None:
    """One core's events, again and again: a core that goes away may come back."""
    backoff = Backoff(session.world, first_s=0.2, most_s=5.0)
    async with session.client(address) as core:
        while True:
            try:
                async with aclosing(core.stream(rpc.Events, asked)) as events:
                    async for event in events:
                        backoff.reset()
                        asked.since_ns = max(asked.since_ns, event.time_ns)
                        await queue.put(event)
            except CoreUnreachable:
                pass  # others go on; this one is asked again
            except RemoteError as error:
                session.talk.warn(f"core {address} tells no events: {error}")
                return
            await backoff.wait()


def inferred(workloads: Iterable[pb.Workload]) -> list[v1.Event]:
    """The little that can be told without events: when each was made, and that it is in some state now."""
    return sorted(
        (
            v1.Event(
                time_ns=each.create_time * NS,
                kind="created",
                id=each.id,
                name=each.name,
                nodename=each.nodename,
                detail=f"image {each.image}" if each.image else "",
            )
            for each in workloads
        ),
        key=lambda event: event.time_ns,
    )
