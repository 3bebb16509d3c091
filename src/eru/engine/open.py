"""Which adapter opens which endpoint; the only place that names all of them."""

from __future__ import annotations

from collections.abc import Mapping

from eru.engine.contract import Engine
from eru.engine.docker import DockerSettings, open_docker
from eru.engine.fake import DEFAULT_CLUSTER, FakeCluster, FakeEngine
from eru.engine.pool import Factory, Opening


def engine_factories(
    docker: DockerSettings | None = None, fakes: FakeCluster = DEFAULT_CLUSTER
) -> Mapping[str, Factory]:
    """Endpoint scheme -> factory, for `EnginePool`."""
    settings = docker or DockerSettings()

    async def open_unix_or_tcp(opening: Opening) -> Engine:
        return await open_docker(opening, settings)

    async def open_fake(opening: Opening) -> Engine:
        return FakeEngine(opening.world, opening.endpoint, fakes)

    return {"unix": open_unix_or_tcp, "tcp": open_unix_or_tcp, "fake": open_fake, "mock": open_fake}
