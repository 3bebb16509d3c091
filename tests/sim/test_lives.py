"""A few hundred simulated lives, and every one that once went wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from sim.life import live

LIVES = 360
CHUNK = 40
# Seeds that found a bug when they were first run; docs/reliability.md tells which.
ONCE_WRONG = [474, 605, 1123, 1180, 1376, 1548, 1791]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("first", range(1, LIVES, CHUNK))
def test_lives(first: int) -> None:
    for seed in range(first, first + CHUNK):
        verdict = live(seed)
        assert not verdict.wrong, _say(seed, verdict.wrong)


@pytest.mark.parametrize("seed", ONCE_WRONG)
def test_what_once_went_wrong(seed: int) -> None:
    verdict = live(seed)
    assert not verdict.wrong, _say(seed, verdict.wrong)


def test_a_life_repeats() -> None:
    assert live(7).story == live(7).story


def _say(seed: int, wrong: list[str]) -> str:
    return f"seed {seed}: {wrong[:5]} - its story: python tests/sim/run.py {seed}"
