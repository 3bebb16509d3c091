"""The stopwatches around store and engines change nothing and count everything."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from eru.core.metered import CallTimes
from eru.core.statsd import Pusher
from eru.engine.contract import Capability, CreateSpec
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool
from eru.lib.world import real_world
from eru.model.errors import EngineMissing, InvalidInput
from eru.store.contract import Put, absent, range_all
from eru.store.memory import MemoryStore

WORLD = real_world()


def shown(times: CallTimes) -> str:
    registry = CollectorRegistry()
    times.register(registry)
    return generate_latest(registry).decode()


async def test_store() -> None:
    times = CallTimes(WORLD)
    store = times.store(MemoryStore(WORLD))
    assert (await store.txn([absent("/a")], [Put("/a", b"1", await store.grant(60))])).succeeded
    item = await store.get("/a")
    assert item is not None
    assert item.value == b"1"
    assert await store.get_many(["/a", "/b"]) == {"/a": item}
    assert (await range_all(store, "/"))[0] == [item]
    watch = await store.watch("/", 1)
    async for batch in watch:
        assert [event.item.key for event in batch.events] == ["/a"]
        break
    await watch.close()
    assert await store.keep_alive(item.lease) == 60
    await store.revoke(item.lease)
    assert await store.get("/a") is None
    await store.close()
    text = shown(times)
    for verb, calls in (("txn", 1), ("get", 2), ("get_many", 1), ("range", 1), ("watch", 1), ("grant", 1)):
        assert f'eru_store_seconds_count{{verb="{verb}"}} {calls}.0' in text


async def test_engines() -> None:
    times = CallTimes(WORLD)
    pool = EnginePool(WORLD, times.engines(engine_factories(fakes=FakeCluster())))
    engine = await pool.get("n", "fake://n")
    assert Capability.EXEC in engine.capabilities
    made = await engine.create(CreateSpec(name="a_b_cdefgh", image="i"))
    await engine.start(made.id)
    assert (await engine.inspect(made.id)).running
    with pytest.raises(EngineMissing):
        await engine.inspect("ghost")
    await pool.close()
    text = shown(times)
    assert 'eru_engine_seconds_count{verb="create"} 1.0' in text
    assert 'eru_engine_seconds_count{verb="inspect"} 2.0' in text
    assert 'eru_call_failures_total{error="EngineMissing",to="engine",verb="inspect"} 1.0' in text


class Receiver(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.got: list[bytes] = []

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.got.append(data)


async def test_statsd(cluster: Any) -> None:
    await cluster.add_pod()
    for number in range(30):
        await cluster.add_node(f"n.{number}")
    loop = asyncio.get_running_loop()
    transport, receiver = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    address = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    pushing = asyncio.create_task(Pusher(cluster.core, address, every_s=0.05).run())
    await cluster.deploy(3)
    text = b""
    async with asyncio.timeout(60):
        while b"deploy.count:3|c" not in text or b"pod.node.n_29.up:1|g" not in text:
            await asyncio.sleep(0.02)
            text = b"\n".join(receiver.got)
    assert b"core.node.n_0.cpu.0:0|g" in text
    assert b"core.node.n_0.memory:" in text
    assert max(map(len, receiver.got)) <= 1400
    pushing.cancel()
    transport.close()


async def test_a_wrong_statsd_address(cluster: Any) -> None:
    with pytest.raises(InvalidInput, match="nonsense"):
        Pusher(cluster.core, "nonsense")
