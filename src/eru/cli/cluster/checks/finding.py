"""One line of the doctor, and how a check is kept from hanging."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass

from eru.lib.world import World

SKEW_WARN_S = 2.0  # clocks that differ by more make times in events and logs hard to compare
SKEW_BAD_S = 30.0  # and these break certificates, logins with time and `--since`
DAY_S = 86400.0
EXPIRY_WARN_DAYS = 30
EXPIRY_BAD_DAYS = 3


@dataclass(frozen=True)
class Finding:
    """One line. `state`: ok, warn or bad; `cure` for the last two."""

    state: str
    text: str
    cure: str = ""


async def within(seconds: float, what: str, check: Coroutine[object, object, list[Finding]]) -> list[Finding]:
    """What the check found; when it takes longer than `seconds`, that it does."""
    try:
        async with asyncio.timeout(seconds):
            return await check
    except TimeoutError:
        return [Finding("bad", f"{what} was not checked within {seconds:g}s", "eru doctor -v shows which call is slow")]


def clock(what: str, there_s: float, world: World, *, uncertain_s: float = 0.0) -> list[Finding]:
    """Whether a clock agrees with ours. `uncertain_s`: how long the answer was on its way."""
    skew = there_s - world.clock.now()
    off = max(abs(skew) - uncertain_s, 0.0)
    if off <= SKEW_WARN_S:
        return []
    way = "ahead of" if skew > 0 else "behind"
    cure = f"run chrony or ntpd on both machines; here it is {'earlier' if skew > 0 else 'later'} than there"
    return [
        Finding("bad" if off > SKEW_BAD_S else "warn", f"the clock of {what} is {off:.0f}s {way} the one here", cure)
    ]


def expiry(what: str, ends_s: float, world: World, cure: str) -> Finding:
    """How long a certificate is still good."""
    days = (ends_s - world.clock.now()) / DAY_S
    if days < 0:
        return Finding("bad", f"{what} has expired {-days:.0f} days ago", cure)
    state = "bad" if days < EXPIRY_BAD_DAYS else "warn" if days < EXPIRY_WARN_DAYS else "ok"
    return Finding(state, f"{what} is good for {days:.0f} days", cure if state != "ok" else "")
