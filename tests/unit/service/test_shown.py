"""What a core shows of itself: every metric is documented, and the debug dump keeps secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from eru.core.debug import dump
from eru.core.metered import CallTimes
from eru.core.metrics import CoreMetrics
from eru.core.service import serve
from eru.core.statsd import Pusher
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1
from eru.wire.channel import connect
from eru.wire.server import ServerSettings

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


async def test_every_name_is_in_the_page(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1")
    metrics = CoreMetrics(cluster.core, times=CallTimes(cluster.world))
    metrics.registry.register(Pusher(cluster.core, "127.0.0.1:8125").failures)
    page = PAGE.read_text()
    families = list(text_string_to_metric_families(metrics.text().decode()))
    names = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    assert {"cpu_used", "eru_rpc_seconds", "eru_sweeps_total", "eru_store_queue"} <= names
    assert sorted(name for name in names if f"`{name}`" not in page) == []


async def test_the_dump_tells_what_runs_and_no_secret(cluster: Any) -> None:
    secret = "PLANTED-5ecret"
    await cluster.add_pod()
    settings = ServerSettings(bind="127.0.0.1:0", username="u", password=secret, drain_s=0.1)
    server = await serve(cluster.core, settings)
    try:
        async with connect(f"127.0.0.1:{server.port}", world=cluster.world, username="u", password=secret) as client:
            node = {"nodename": "n1", "podname": "pod", "endpoint": "fake://n1?cpu=4&memory=8G", "test": True}
            await client.unary(rpc.AddNode, pb.AddNodeOptions(**node, ca=secret, cert=secret, key=secret))
            entrypoint = pb.EntrypointOptions(name="web")
            request = pb.DeployOptions(
                name="app", podname="pod", image="img", count=1, entrypoint=entrypoint, env=[f"KEY={secret}"]
            )
            assert [one.error async for one in client.stream(rpc.CreateWorkload, request)] == [""]
            told = orjson.loads((await client.unary(rpc.Debug, v1.DebugRequest())).json)
    finally:
        await server.drain()
    assert secret not in orjson.dumps(told).decode()
    assert secret not in repr(settings)
    assert [call["rpc"] for call in told["calls"]] == ["Debug"]
    assert told["view"]["nodes"] == 1
    assert told["commits"]["transactions"] >= 1
    assert told["engines"] == {"unreachable": {}}


async def test_the_dump_of_an_idle_core(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1")
    shown = dump(cluster.core)
    assert shown["intents"] == []
    assert shown["recovery"] == {"swept": 0}
