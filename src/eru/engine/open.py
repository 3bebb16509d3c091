"""Which adapter opens which endpoint; the only place that names all of them."""

from __future__ import annotations

from collections.abc import Mapping

from eru.engine.contract import Engine
from eru.engine.fake import DEFAULT_CLUSTER, FakeCluster, FakeEngine
from eru.engine.pool import Factory, Opening


def engine_factories(fakes: FakeCluster = DEFAULT_CLUSTER) -> Mapping[str, Factory]:
    """Endpoint scheme -> factory, for `EnginePool`."""

    async def fake(opening: Opening) -> Engine:
        return FakeEngine(opening.world, opening.endpoint, fakes)

    return {"fake": fake, "mock": fake}
