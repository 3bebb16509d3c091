"""Keeps what the screen knows true: one listing, streamed in; then what agents report; a listing again now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing

from eru.cli.session import Session
from eru.cli.tui.cluster import Cluster
from eru.lib.retry import Backoff
from eru.lib.tasks import TaskOwner
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

BATCH = 250  # messages taken before others (the screen, keys) have their turn
FIRST_BATCH = 60  # enough for one screen
LIST_AGAIN_S = 15.0  # what appears without any report is seen then
_FOLLOWING = "following"
LIST_PART = 0.05  # of the time may be spent listing: a large cluster is listed less often


class Feed:
    """Runs until its owner closes. `news` is set when something changed."""

    def __init__(
        self, session: Session, cluster: Cluster, app: str = "", labels: Mapping[str, str] | None = None
    ) -> None:
        self.session = session
        self.cluster = cluster
        self.app = app
        self.labels = dict(labels or {})
        self.news = asyncio.Event()
        self._listed = asyncio.Event()
        self._again = asyncio.Event()
        self._troubles: dict[str, str] = {}

    def start(self, owner: TaskOwner) -> None:
        """Listing first: it is what the user waits for."""
        owner.start("list", self._for_ever(self._list, pause=True))
        owner.start("nodes", self._for_ever(self._nodes, pause=True))
        owner.start("statuses", self._for_ever(self._statuses))
        owner.start("heartbeats", self._for_ever(self._heartbeats))

    def look_again(self) -> None:
        """List at once: something was changed from here."""
        self._again.set()

    async def _for_ever(self, work: Callable[[], Awaitable[None]], *, pause: bool = False) -> None:
        backoff = Backoff(self.session.world, first_s=0.2, most_s=5.0)
        clock = self.session.world.clock
        while True:
            started = clock.monotonic()
            try:
                await work()
            except RemoteError as error:
                if pause:
                    self._say(work.__name__, str(error))
                else:
                    self._say(_FOLLOWING, "core went away, waiting for it")
                    self._again.set()  # a listing finds out what is the matter
                await backoff.wait()
                continue
            if not pause:
                await backoff.wait()
                continue
            self._troubles.pop(_FOLLOWING, None)
            self._say(work.__name__, "")
            backoff.reset()
            await self._pause(clock.monotonic() - started)

    async def _pause(self, took_s: float) -> None:
        try:
            async with asyncio.timeout(max(LIST_AGAIN_S, took_s / LIST_PART)):
                await self._again.wait()
        except TimeoutError:
            return
        self._again.clear()

    def _say(self, what: str, trouble: str) -> None:
        """Show what a listing failed with, until it works again."""
        self._troubles[what] = trouble
        now = next((each for each in self._troubles.values() if each), "")
        if now != self.cluster.trouble:
            self.cluster.trouble = now
            self.cluster.version += 1
            self.news.set()

    async def _list(self) -> None:
        """All instances; the first screenful is put as soon as it is there."""
        cluster = self.cluster
        cluster.begin_listing()
        batch: list[pb.Workload] = []
        first = not cluster.complete
        asked = pb.ListWorkloadsOptions(appname=self.app, labels=self.labels)
        async with aclosing(self.session.stream(rpc.ListWorkloads, asked)) as found:
            async for workload in found:
                batch.append(workload)
                if len(batch) >= (FIRST_BATCH if first else BATCH):
                    first = False
                    cluster.put(batch)
                    batch = []
                    self.news.set()
                    await self.session.world.clock.sleep(0)
        cluster.put(batch)
        cluster.end_listing()
        self._listed.set()
        self.news.set()

    async def _nodes(self) -> None:
        await self._listed.wait()
        nodes = await self.session.collect(rpc.ListPodNodes, pb.ListNodesOptions(all=True, skip_info=True))
        self.cluster.put_nodes(nodes)
        self.cluster.put_pods((await self.session.unary(rpc.ListPods, pb.Empty())).pods)
        self.news.set()

    async def _statuses(self) -> None:
        asked = pb.WorkloadStatusStreamOptions(appname=self.app, labels=self.labels)
        async with aclosing(self.session.stream(rpc.WorkloadStatusStream, asked)) as events:
            async for event in events:
                self.cluster.changed(event)
                self.news.set()

    async def _heartbeats(self) -> None:
        await self._listed.wait()
        async with aclosing(self.session.stream(rpc.NodeStatusStream, pb.Empty())) as events:
            async for event in events:
                if event.nodename and not event.error:
                    self.cluster.node_beats(event.nodename, event.alive)
                    self.news.set()
