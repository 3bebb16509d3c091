"""What workloads use, asked over the wire."""

from __future__ import annotations

from typing import Any

import pytest

from eru.model.errors import RemoteError
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1


async def ready(cluster: Any, count: int = 3) -> list[str]:
    await cluster.add_pod()
    await cluster.add_node("n0")
    await cluster.add_node("n1")
    return [made.id for made in await cluster.deploy(count)]


async def asked(cluster: Any, **wanted: Any) -> list[v1.Stat]:
    return [stat async for stat in cluster.client.stream(rpc.Stats, v1.StatsRequest(**wanted))]


async def test_every_workload_has_figures_with_the_engines_time(cluster: Any) -> None:
    ids = await ready(cluster)
    first = {stat.id: stat for stat in await asked(cluster)}
    second = {stat.id: stat for stat in await asked(cluster, appname="app", entrypoint="web")}
    assert set(first) == set(second) == set(ids)
    for id, before in first.items():
        assert before.memory > 0
        assert before.name.startswith("app_web_")
        assert before.nodename in ("n0", "n1")
        assert second[id].time_ns > before.time_ns
        assert second[id].cpu_ns >= before.cpu_ns


async def test_everything_given_must_match(cluster: Any) -> None:
    ids = await ready(cluster)
    on_n0 = await asked(cluster, nodename="n0")
    assert 0 < len(on_n0) < len(ids)
    assert [stat.id for stat in await asked(cluster, ids=ids[:1])] == ids[:1]
    assert await asked(cluster, appname="other", ids=ids) == []
    assert await asked(cluster, nodename="n0", appname="other") == []
    assert await asked(cluster, appname="app", entrypoint="job") == []


async def test_an_engine_that_is_silent_is_an_error_of_its_workloads_only(cluster: Any) -> None:
    await ready(cluster)
    cluster.fakes.node("n1").down = True
    found = await asked(cluster)
    assert {stat.nodename for stat in found if stat.error} == {"n1"}
    assert all("down" in stat.error for stat in found if stat.nodename == "n1")
    assert all(stat.memory for stat in found if stat.nodename == "n0")


async def test_unknown_ids_and_an_entrypoint_without_app_are_refused(cluster: Any) -> None:
    await ready(cluster)
    with pytest.raises(RemoteError, match="does not exist"):
        await asked(cluster, ids=["a" * 64])
    with pytest.raises(RemoteError, match="without an app"):
        await asked(cluster, entrypoint="web")
