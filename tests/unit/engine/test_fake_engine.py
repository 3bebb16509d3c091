"""The fake engine's knobs, lives and scripts, on seeded worlds."""

import asyncio

import pytest

from eru.engine.contract import Chunk, CreateSpec, Stream
from eru.engine.fake import FakeCluster, FakeEngine, parse_endpoint
from eru.lib.world import real_world, seeded_world
from eru.model.errors import (
    EngineMissing,
    EngineOutcomeUnknown,
    EngineRefused,
    EngineUnreachable,
    InvalidInput,
)


def engine(query: str = "", cluster: FakeCluster | None = None, seed: int = 1) -> FakeEngine:
    return FakeEngine(seeded_world(seed), f"fake://n1{query}", cluster or FakeCluster())


def spec(name: str = "app_web_aaaaaa", commands: tuple[str, ...] = ("server",), **more: object) -> CreateSpec:
    return CreateSpec(name=name, image="img", commands=list(commands), **more)  # type: ignore[arg-type]


def test_endpoint_knobs() -> None:
    key, knobs = parse_endpoint("fake://n1/?cpu=8&memory=16G&create_ms=5&fail_start=0.5&hang=stop,remove&images=a,b")
    assert key == "n1"
    assert (knobs.cpu, knobs.memory) == (8, 16 << 30)
    assert knobs.delay_s == {"create": 0.005}
    assert knobs.fail == {"start": 0.5}
    assert knobs.hang == {"stop", "remove"}
    assert knobs.images == {"a", "b"}
    assert not knobs.quiet
    assert parse_endpoint("mock://x")[1].cpu == 100


@pytest.mark.parametrize("query", ["?cpus=3", "?create_ms=soon", "?memory=lots", "?hang=fly", "?fail_start=-1"])
def test_a_wrong_knob_is_explained(query: str) -> None:
    with pytest.raises(InvalidInput, match="knob"):
        parse_endpoint(f"fake://n1{query}")


async def test_handles_on_the_same_endpoint_see_the_same_workloads() -> None:
    cluster = FakeCluster()
    created = await engine("?cpu=1", cluster).create(spec())
    again = engine("?cpu=2", cluster, seed=2)
    assert (await again.inspect("app_web_aaaaaa")).id == created.id
    with pytest.raises(EngineRefused, match="already in use"):
        await again.create(spec())


async def test_equal_seeds_give_equal_ids() -> None:
    first = await engine(seed=7).create(spec())
    second = await engine(seed=7).create(spec())
    assert first.id == second.id
    assert len(first.id) == 64


async def test_knobs_fail_lose_and_silence() -> None:
    with pytest.raises(EngineRefused, match="fail_create"):
        await engine("?fail_create=1").create(spec())
    cluster = FakeCluster()
    with pytest.raises(EngineOutcomeUnknown):
        await engine("?lose_create=1", cluster).create(spec())
    assert cluster.node("n1").names, "the effect of a lost answer is there"
    with pytest.raises(EngineUnreachable):
        await engine("?down=1").ping()
    with pytest.raises(EngineOutcomeUnknown, match="did not answer stop"):
        await engine("?hang=stop&hang_s=0.01").stop("x")
    with pytest.raises(EngineMissing, match="no image 'img'"):
        await engine("?images=other").create(spec())


async def test_a_workload_can_end_by_itself() -> None:
    fake = engine("?exit_after_s=0.02&exit_code=3")
    created = await fake.create(spec())
    await fake.start(created.id)
    assert (await fake.inspect(created.id)).running
    assert await fake.wait(created.id) == 3
    assert not (await fake.inspect(created.id)).running


async def test_a_script_prints_and_exits() -> None:
    fake = engine()
    created = await fake.create(spec(commands=("sh", "-c", "echo one; sleep 0.02; echo two >&2 && exit 4")))
    await fake.start(created.id)
    lines = [chunk async for chunk in fake.logs(created.id, follow=True)]
    assert lines == [Chunk(Stream.STDOUT, b"one\n"), Chunk(Stream.STDERR, b"two\n")]
    assert await fake.wait(created.id) == 4


async def test_a_restart_policy_starts_it_again() -> None:
    fake = engine()
    created = await fake.create(spec(commands=("sleep", "0.01"), restart="always"))
    await fake.start(created.id)
    await asyncio.sleep(0.05)
    found = await fake.inspect(created.id)
    assert found.running
    await fake.stop(created.id)
    assert not (await fake.inspect(created.id)).running


async def test_events_tell_of_starts_and_ends() -> None:
    fake = engine()
    seen: list[tuple[str, str]] = []

    async def listen() -> None:
        async for event in fake.events({"ERU": "1"}):
            seen.append((event.action, event.labels["who"]))
            if event.action == "destroy":
                return

    listening = asyncio.get_running_loop().create_task(listen())
    await asyncio.sleep(0)
    other = await fake.create(spec("x_y_zzzzzz"))
    created = await fake.create(spec(commands=("sleep", "0.01"), labels={"ERU": "1", "who": "me"}))
    await fake.start(created.id)
    assert await fake.wait(created.id) == 0
    await fake.remove(created.id)
    await fake.remove(other.id)
    async with asyncio.timeout(60):
        await listening
    assert seen == [("create", "me"), ("start", "me"), ("die", "me"), ("destroy", "me")]


async def test_a_hundred_thousand_workloads_are_quick_and_small() -> None:
    cluster = FakeCluster()
    world = real_world()
    fakes = [FakeEngine(world, f"fake://n{n}", cluster) for n in range(100)]
    for number in range(100_000):
        await fakes[number % 100].create(
            CreateSpec(
                name=f"app_web_{number:06}",
                image="img",
                env=["APP_NAME=app", f"ERU_WORKLOAD_SEQ={number % 1000}"],
                labels={"ERU": "1", "eru.nodename": f"n{number % 100}"},
                params={"cpumem": {"cpu": 0.1, "memory": 1 << 20}},
            )
        )
    assert len(cluster.containers()) == 100_000
    found = await fakes[42].inspect("app_web_000042")
    assert found.labels["eru.nodename"] == "n42"
    assert found.env[1] == "ERU_WORKLOAD_SEQ=42"
