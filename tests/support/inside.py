"""A core in this process with one node, for what happens inside workloads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from eru.core.app import Core
from eru.core.ops.deploy import deploy
from eru.core.ops.nodes import add_node
from eru.core.ops.pods import add_pod
from eru.core.settings import CoreSettings
from eru.engine.contract import EngineLimits
from eru.engine.docker import DockerSettings
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool, PoolSettings
from eru.lib.world import real_world
from eru.model.deploy import DeploySpec, Entrypoint, NodeFilter
from eru.model.errors import EngineMissing
from eru.model.nodes import NodeTLS
from eru.model.requests import NewNode
from eru.resource.registry import builtin_kinds
from eru.store.keys import Keys
from eru.store.memory import MemoryStore

POD = "inside"
NODE = "inside-node"


@asynccontextmanager
async def core_with_node(
    endpoint: str,
    limits: EngineLimits | None = None,
    docker: DockerSettings | None = None,
    tls: NodeTLS | None = None,
) -> AsyncIterator[Core]:
    """Every workload that is left is removed at the end."""
    world = real_world()
    store = MemoryStore(world)
    pool = EnginePool(
        world, engine_factories(docker, FakeCluster()), PoolSettings(limits=limits or EngineLimits(), ping_every_s=0)
    )
    core = Core(world, store, Keys(), pool, builtin_kinds(), CoreSettings())
    try:
        await core.start()
        await add_pod(core, POD, "")
        await add_node(core, NewNode(name=NODE, podname=POD, endpoint=endpoint, tls=tls, test=True))
        try:
            yield core
        finally:
            ids = [core.keys.split(item.key)[1][0] for item in (await store.range(core.keys.workloads)).items]
            engine = await core.engine_for(NODE)
            for id in ids:
                with suppress(EngineMissing):
                    await engine.remove(id, force=True)
    finally:
        await core.background.wait_idle(30)
        await core.stop()
        await pool.close()
        await store.close()


async def run(core: Core, commands: list[str], *, count: int = 1, app: str = "", **more: Any) -> list[str]:
    """Ids of new workloads; an error of any is a failure."""
    spec = DeploySpec(
        app=app or f"inside{core.world.letters(4).lower()}",
        entrypoint=Entrypoint(name="main", commands=commands),
        image="bb",
        count=count,
        nodes=NodeFilter(podname=POD),
        networks={"none": ""},
        ignore_pull=True,
        resources={"cpumem": {"cpu-request": 0.1, "memory-request": 16 << 20}},
        **more,
    )
    results = [result async for result in deploy(core, spec)]
    errors = [str(result.error) for result in results if result.error]
    assert not errors, errors
    return [result.id for result in results]
