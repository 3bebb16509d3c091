"""Faults strike where they are told to."""

import asyncio
from typing import NoReturn

import pytest

from eru.engine.contract import CreateSpec, Engine
from eru.engine.fake import FakeCluster, FakeEngine
from eru.engine.faulty import CALM, Fault, Faults, Verdict, faulty
from eru.lib.world import seeded_world
from eru.model.errors import EngineError, EngineOutcomeUnknown, EngineRefused, EngineUnreachable


class Died(BaseException):
    """Stands for the end of the process."""


class Scripted(Faults):
    """One fault for one verb."""

    def __init__(self, verb: str, fault: Fault) -> None:
        self.verb, self.fault = verb, fault
        self.seen: list[tuple[str, str]] = []

    def judge(self, verb: str, subject: str) -> Verdict:
        self.seen.append((verb, subject))
        return Verdict(self.fault, 0.001) if verb == self.verb else CALM

    async def crash(self, verb: str, subject: str) -> NoReturn:
        raise Died


def under(verb: str, fault: Fault) -> tuple[Engine, FakeCluster, Scripted]:
    cluster, faults, world = FakeCluster(), Scripted(verb, fault), seeded_world(1)
    return faulty(world, FakeEngine(world, "fake://n", cluster), faults), cluster, faults


@pytest.mark.parametrize(
    ("fault", "error", "done"),
    [
        (Fault.FAIL_BEFORE, EngineUnreachable, False),
        (Fault.REFUSE, EngineRefused, False),
        (Fault.LOSE_CALL, EngineOutcomeUnknown, False),
        (Fault.LOSE_ANSWER, EngineOutcomeUnknown, True),
        (Fault.CRASH_BEFORE, Died, False),
        (Fault.CRASH_AFTER, Died, True),
    ],
)
async def test_create_under_each_fault(fault: Fault, error: type[BaseException], done: bool) -> None:
    engine, cluster, faults = under("create", fault)
    with pytest.raises(error):
        await engine.create(CreateSpec(name="a_b_c", image="i"))
    assert (len(cluster.containers()) == 1) is done
    assert faults.seen == [("create", "a_b_c")]


async def test_a_lost_read_is_only_unreachable() -> None:
    engine, _, _ = under("find", Fault.LOSE_ANSWER)
    with pytest.raises(EngineUnreachable):
        await engine.find({})


async def test_streams_and_other_calls_pass() -> None:
    engine, _, faults = under("pull", Fault.LOSE_ANSWER)
    with pytest.raises(EngineError):
        async for _ in engine.pull("img"):
            pass
    assert [image.tags for image in await engine.images()] == [["img"]]
    assert engine.type == "fake"
    assert ("images", "") in faults.seen
    await asyncio.wait_for(engine.close(), 60)
