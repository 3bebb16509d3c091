"""The entry to planning: a request's strategy, applied."""

from __future__ import annotations

from collections.abc import Callable

from eru.model.deploy import Strategy
from eru.model.errors import InvalidInput
from eru.plan import strategies
from eru.plan.contract import Candidates, Plan

_BY_STRATEGY: dict[Strategy, Callable[[Candidates, int, int], Plan]] = {
    Strategy.AUTO: strategies.auto,
    Strategy.FILL: strategies.fill,
    Strategy.EACH: strategies.each,
    Strategy.GLOBAL: strategies.global_,
    Strategy.DRAINED: strategies.drained,
}

COUNT_MAX = 1_000_000_000  # instances in one request


def plan(candidates: Candidates, strategy: Strategy, count: int, limit: int = 0) -> Plan:
    """How many instances each candidate gets. Candidates without capacity may be among them (FILL wants them).

    Raises InvalidInput for a wrong count, limit or strategy, NoCapacity when
    it does not fit, Refused when FILL finds nothing to do.
    """
    if not 0 < count <= COUNT_MAX:
        raise InvalidInput(f"count: {count}: invalid deploy count")
    if limit < 0:
        raise InvalidInput(f"nodes_limit: {limit}: expected 0 (no limit) or more")
    decide = _BY_STRATEGY.get(strategy)
    if decide is None:
        raise InvalidInput(f"strategy {strategy}: deploy method not support yet")
    return decide(candidates, count, limit)


def spread_error(candidates: Candidates, placed: Plan) -> int:
    """How much evener one moved instance would make the counts; 0: nothing is evener.

    The difference between the fullest node that got an instance and the
    emptiest that could still take one, less the one that cannot be avoided.
    """
    got = placed > 0
    able = candidates.capacity > placed
    if not got.any() or not able.any():
        return 0
    after = candidates.count + placed
    return max(0, int(after[got].max()) - int(after[able].min()) - 1)
