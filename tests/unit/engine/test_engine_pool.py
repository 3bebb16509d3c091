"""Handles: shared, evicted, remembered failures, mended in the background."""

import asyncio
from collections.abc import Callable

import pytest

from eru.engine.contract import Engine
from eru.engine.fake import FakeCluster, FakeEngine
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool, Opening, PoolSettings
from eru.lib.world import real_world
from eru.model.errors import EngineUnreachable, InvalidInput
from eru.model.nodes import NodeTLS

SETTINGS = PoolSettings(
    connect_timeout_s=0.2, retry_first_s=0.01, retry_most_s=0.02, ping_every_s=0.01, close_grace_s=0.01
)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110 - the pool has no event for it
            await asyncio.sleep(0.005)


class Adapter:
    """Opens fakes, counts what is open, and refuses certificates named "bad"."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.opened: list[FakeEngine] = []
        self.closed = 0

    async def __call__(self, opening: Opening) -> Engine:
        if opening.tls.ca == "bad":
            raise EngineUnreachable("certificate is not trusted")
        adapter = self

        class Counted(FakeEngine):
            async def close(self) -> None:
                adapter.closed += 1

        engine = Counted(opening.world, opening.endpoint, self.cluster)
        self.opened.append(engine)
        return engine

    async def until_closed(self, count: int) -> None:
        await until(lambda: self.closed == count)


def pool_of(adapter: Adapter) -> EnginePool:
    return EnginePool(real_world(), {"fake": adapter}, SETTINGS)


async def test_nodes_with_the_same_endpoint_share_a_handle_until_the_last_goes() -> None:
    adapter = Adapter()
    pool = pool_of(adapter)
    first = await pool.get("a", "fake://x")
    assert await pool.get("b", "fake://x") is first
    assert pool.known("a", "fake://x") is first
    assert pool.known("a", "fake://y") is None
    pool.forget("a")
    assert pool.known("b", "fake://x") is first
    assert adapter.closed == 0
    pool.forget("b")
    await adapter.until_closed(1)
    await pool.close()
    assert adapter.closed == 1


async def test_a_changed_endpoint_leaves_the_old_handle() -> None:
    adapter = Adapter()
    pool = pool_of(adapter)
    old = await pool.get("a", "fake://x")
    assert await pool.get("a", "fake://y") is not old
    await adapter.until_closed(1)
    await pool.close()


async def test_an_unreachable_engine_answers_at_once_and_comes_back() -> None:
    adapter = Adapter()
    pool = pool_of(adapter)
    adapter.cluster.node("x").down = True
    engine = await pool.get("a", "fake://x")
    with pytest.raises(EngineUnreachable, match=r"node a at fake://x is unreachable: .*down"):
        await engine.info()
    with pytest.raises(EngineUnreachable, match="node a"):
        async for _ in engine.logs("id"):
            pass
    assert list(pool.unreachable_nodes()) == ["a"]
    adapter.cluster.node("x").down = False
    await until(lambda: not pool.unreachable_nodes())
    assert (await (await pool.get("a", "fake://x")).info()).type == "fake"
    await pool.close()


async def test_a_working_engine_that_dies_is_noticed_by_ping() -> None:
    adapter = Adapter()
    pool = pool_of(adapter)
    await (await pool.get("a", "fake://x")).ping()
    adapter.cluster.node("x").down = True
    await until(lambda: bool(pool.unreachable_nodes()))
    await pool.close()
    assert adapter.closed == len(adapter.opened)


async def test_an_engine_that_hangs_is_given_up_after_the_timeout() -> None:
    pool = pool_of(Adapter())
    engine = await pool.get("a", "fake://x?hang=ping&hang_s=60")
    with pytest.raises(EngineUnreachable, match=r"no answer within 0\.2 s"):
        await engine.ping()
    await pool.close()


async def test_bad_certificates_do_not_touch_the_neighbour_at_the_same_address() -> None:
    adapter = Adapter()
    pool = pool_of(adapter)
    good = await pool.get("a", "fake://x")
    with pytest.raises(EngineUnreachable, match="not trusted"):
        async with pool.private("fake://x", NodeTLS(ca="bad")):
            pass
    with pytest.raises(EngineUnreachable, match="not trusted"):
        await (await pool.get("b", "fake://x", NodeTLS(ca="bad"))).ping()
    pool.forget("b")
    assert await pool.get("a", "fake://x") is good
    await good.ping()
    await pool.close()


async def test_a_private_handle_is_closed_at_the_end() -> None:
    adapter = Adapter()
    pool = pool_of(adapter)
    async with pool.private("fake://x") as engine:
        assert (await engine.info()).ncpu == 24
    assert adapter.closed == 1
    await pool.close()


async def test_an_unknown_scheme_names_the_known_ones() -> None:
    pool = EnginePool(real_world(), engine_factories(), SETTINGS)
    with pytest.raises(InvalidInput, match=r"'ftp://x' has no known engine.*fake://"):
        pool.check_endpoint("ftp://x")
    engine = await pool.get("a", "ftp://x")
    with pytest.raises(EngineUnreachable, match="no known engine"):
        await engine.ping()
    await pool.close()


async def test_an_adapter_with_a_defect_leaves_nobody_waiting() -> None:
    async def broken(_: Opening) -> Engine:
        raise KeyError("oops")

    pool = EnginePool(real_world(), {"fake": broken}, SETTINGS)
    with pytest.raises(EngineUnreachable, match="KeyError"):
        await (await pool.get("a", "fake://x")).ping()
    await pool.close()
