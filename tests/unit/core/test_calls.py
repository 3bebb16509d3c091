"""Engine calls with a time limit: those answered at once, those that are waited for, and those that are given up."""

from __future__ import annotations

import asyncio

import pytest

from eru.core.calls import bounded
from eru.model.errors import EngineOutcomeUnknown, EngineRefused


async def test_an_answer_without_waiting_makes_no_timer() -> None:
    loop = asyncio.get_running_loop()
    timers: list[object] = []
    real = loop.call_at

    def counted(*args: object, **options: object) -> asyncio.TimerHandle:
        timers.append(args)
        return real(*args, **options)  # type: ignore[arg-type]

    loop.call_at = counted  # type: ignore[method-assign]
    try:

        async def at_once() -> int:
            return 7

        assert await bounded(at_once(), 5, "it") == 7
        assert timers == []
    finally:
        loop.call_at = real  # type: ignore[method-assign]


async def test_an_answer_after_several_waits() -> None:
    async def later() -> str:
        told = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(told.set_result, "a")
        first = await told
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await asyncio.sleep(0.001)
        return f"{first}b"

    assert await bounded(later(), 5, "it") == "ab"


@pytest.mark.parametrize("waits", [False, True])
async def test_its_error_is_the_callers(waits: bool) -> None:
    async def refuse() -> None:
        if waits:
            await asyncio.sleep(0)
        raise EngineRefused("no")

    with pytest.raises(EngineRefused, match="no"):
        await bounded(refuse(), 5, "it")


async def test_a_call_may_handle_what_is_thrown_into_it() -> None:
    async def patient() -> str:
        failed = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(failed.set_exception, EngineRefused("first"))
        try:
            await failed
        except EngineRefused:
            await asyncio.sleep(0)
        return "second"

    assert await bounded(patient(), 5, "it") == "second"


async def test_its_own_time_limit_is_not_ours() -> None:
    async def limited() -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return "its own"
        return "none"

    assert await bounded(limited(), 5, "it") == "its own"


async def test_too_slow_is_given_up_and_ended() -> None:
    ended = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(EngineOutcomeUnknown, match=r"it was not answered within 0\.01 s"):
        await bounded(never(), 0.01, "it")
    assert ended.is_set()


async def test_a_caller_that_is_cancelled_ends_the_call() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def never() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(bounded(never(), 5, "it"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
