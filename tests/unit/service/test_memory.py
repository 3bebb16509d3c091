"""A core that serves thousands of mixed requests keeps its size."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

PAGE_BYTES = 4096
WARM_UP = 2_000
MEASURED = 6_000
WORKERS = 16
KEPT_REVISIONS = 500
GROWTH_BYTES_MAX = 400 * MEASURED  # a leak of one small object per request would show


def resident() -> int:
    """Bytes of memory this process really uses."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log lines would be kept by the test runner."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


@pytest.mark.slow
async def test_flat(cluster: Any) -> None:
    """Client and core share this process, so both are measured."""
    client = cluster.client
    await cluster.add_pod()
    for number in range(5):
        await cluster.add_node(f"n{number}")
    ids = [message.id for message in await cluster.deploy(20)]
    chance = random.Random(7)

    async def one() -> None:
        match chance.randrange(8):
            case 0:
                await client.unary(rpc.GetNode, pb.GetNodeOptions(nodename=f"n{chance.randrange(5)}"))
            case 1:
                beat = pb.SetNodeStatusOptions(nodename=f"n{chance.randrange(5)}", ttl=3600)
                await client.unary(rpc.SetNodeStatus, beat)
            case 2 | 3:
                status = pb.WorkloadStatus(id=chance.choice(ids), running=chance.random() < 0.5)
                await client.unary(rpc.SetWorkloadsStatus, pb.SetWorkloadsStatusOptions(status=[status]))
            case 4:
                with pytest.raises(RemoteError):
                    await client.unary(rpc.GetWorkload, pb.WorkloadID(id="ghost"))
            case 5:
                async for _ in client.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions(appname="app")):
                    pass
            case 6:
                made = await cluster.deploy(1)
                gone = pb.RemoveWorkloadOptions(IDs=[message.id for message in made], force=True)
                async for _ in client.stream(rpc.RemoveWorkload, gone):
                    pass
            case 7:
                watching = client.stream(rpc.WatchServiceStatus, pb.Empty())
                await anext(watching)
                await watching.aclose()

    async def many(count: int) -> None:
        await asyncio.gather(*(worker(count // WORKERS) for _ in range(WORKERS)))

    async def worker(count: int) -> None:
        for number in range(count):
            await one()
            if number % 20 == 0 and cluster.store.revision > KEPT_REVISIONS:
                await cluster.store.compact(cluster.store.revision - KEPT_REVISIONS)  # the store's past is not core's

    await many(WARM_UP)
    before = resident()
    await many(MEASURED)
    growth = resident() - before
    assert growth < GROWTH_BYTES_MAX, f"grew by {growth} bytes in {MEASURED} requests"
