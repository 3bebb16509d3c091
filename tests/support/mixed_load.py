"""Requests of all sorts to a core process, and streams that read or do not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from eru.lib.world import real_world
from eru.wire import core_pb2 as pb
from eru.wire import core_pb2_grpc as core_grpc
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient, connect
from support.core_processes import POD, deploy_options, deployed, listed, node_options, removed

NODES = 20
CLIENTS = 16
PER_CONNECTION = 90  # streams; a core takes 100 calls of one connection


async def filled(client: CoreClient) -> None:
    """A pod of nodes."""
    await client.unary(rpc.AddPod, pb.AddPodOptions(name=POD))
    for number in range(NODES):
        await client.unary(rpc.AddNode, node_options(f"n{number}"))


class Load:
    """Counts what it asked; any failure is raised."""

    def __init__(self, client: CoreClient) -> None:
        self.client = client
        self.requests = 0
        self._turns = itertools.count()

    @classmethod
    @asynccontextmanager
    async def on(cls, address: str) -> AsyncIterator[Load]:
        async with connect(address, world=real_world(), connect_timeout_s=20) as client:
            yield cls(client)

    async def run(self, requests: int) -> None:
        """So many more requests."""
        end = self.requests + requests

        async def one() -> None:
            while self.requests < end:
                await self._round(next(self._turns))

        await asyncio.gather(*(one() for _ in range(CLIENTS)))

    async def _round(self, turn: int) -> None:
        """Ten requests: one life of a workload, and what goes on around it."""
        client, node = self.client, f"n{turn % NODES}"
        [made] = await deployed(client, deploy_options(f"app{turn % 50}", 1))
        assert made.success, made.error
        status = pb.WorkloadStatus(id=made.id, running=True, healthy=True, ttl=60)
        await client.unary(rpc.SetWorkloadsStatus, pb.SetWorkloadsStatusOptions(status=[status]))
        for _ in range(3):
            await client.unary(rpc.SetNodeStatus, pb.SetNodeStatusOptions(nodename=node, ttl=180))
        await client.unary(rpc.GetNode, pb.GetNodeOptions(nodename=node))
        await client.unary(rpc.GetWorkload, pb.WorkloadID(id=made.id))
        await client.unary(rpc.CalculateCapacity, deploy_options("app0", 1))
        assert await listed(client, f"app{turn % 50}")
        [gone] = await removed(client, [made.id])
        assert gone.success, gone.hook
        self.requests += 10


class Watchers:
    """Open streams of workload statuses; with `reading` false their messages are never taken."""

    def __init__(self) -> None:
        self._calls: list[Any] = []
        self._readers: list[asyncio.Task[None]] = []
        self.received = 0

    @classmethod
    @asynccontextmanager
    async def on(cls, address: str, count: int, *, reading: bool) -> AsyncIterator[Watchers]:
        self = cls()
        channels = [
            grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(-(-count // PER_CONNECTION))
        ]
        try:
            for number in range(count):
                stub = core_grpc.CoreRPCStub(channels[number // PER_CONNECTION])
                call = stub.WorkloadStatusStream(pb.WorkloadStatusStreamOptions())
                self._calls.append(call)
                if reading:
                    self._readers.append(asyncio.create_task(self._read(call)))
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
            yield self
        finally:
            for task in self._readers:
                task.cancel()
            await asyncio.gather(*self._readers, return_exceptions=True)
            for channel in channels:
                await channel.close()

    @property
    def count(self) -> int:
        return len(self._calls)

    @property
    def ended(self) -> int:
        return sum(call.done() for call in self._calls)

    async def _read(self, call: Any) -> None:
        async for _ in call:
            self.received += 1
