"""Why nodes were not chosen: per node as data, and in one paragraph for people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eru.model.deploy import Strategy
from eru.model.refusals import Reason, Refusal
from eru.plan.contract import Candidates

_BYTES = ("memory", "storage", "volumes", "bps")  # dimensions, or their ends, that are told in bytes

_SENTENCES = {
    Reason.EXCLUDED: "excluded by the request",
    Reason.POD: "in another pod",
    Reason.LABEL: "without a label asked for",
    Reason.BYPASS: "bypassed by their operator",
    Reason.DOWN: "down, heartbeat missing",
    Reason.LIMIT: "with room, but not for this",
}


def by_strategy(
    names: Sequence[str], candidates: Candidates, strategy: Strategy, count: int, limit: int = 0
) -> list[Refusal]:
    """Nodes that have room but that the strategy or its limit rules out, in the candidates' order."""
    has_room = candidates.capacity > 0
    if strategy is Strategy.AUTO and limit:
        out = has_room & (candidates.count >= limit)
        return [
            _limit(names[i], f"hosts {candidates.count[i]} instances, at most {limit} are allowed")
            for i in np.flatnonzero(out).tolist()
        ]
    if strategy is Strategy.EACH:
        out = has_room & (candidates.capacity < count)
        return [
            _limit(names[i], f"has room for {candidates.capacity[i]} of {count}") for i in np.flatnonzero(out).tolist()
        ]
    if strategy is Strategy.FILL:
        missing = np.maximum(count - candidates.count, 0)
        out = has_room & (candidates.capacity < missing)
        return [
            _limit(names[i], f"misses {missing[i]} instances and has room for {candidates.capacity[i]}")
            for i in np.flatnonzero(out).tolist()
        ]
    return []


def summary(refusals: Sequence[Refusal]) -> str:
    """One clause per reason, most nodes first; "" for no refusals.

    For example `memory: 9,214 nodes short by at least 120M (nearest node-0222: 40M); down, heartbeat missing: 3 nodes`.
    """
    groups: dict[tuple[Reason, str], list[Refusal]] = {}
    for refusal in refusals:
        groups.setdefault((refusal.reason, refusal.dimension), []).append(refusal)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return "; ".join(_clause(reason, dimension, group) for (reason, dimension), group in ordered)


def _clause(reason: Reason, dimension: str, group: Sequence[Refusal]) -> str:
    many = "1 node" if len(group) == 1 else f"{len(group):,} nodes"
    if reason is not Reason.RESOURCE:
        first = group[0]
        alike = all(refusal.detail == first.detail for refusal in group)
        detail = first.detail if alike or not first.detail else f"for example {first.nodename}: {first.detail}"
        return f"{_SENTENCES[reason]}: {many}{_in_brackets(detail)}"
    nearest = min(group, key=lambda refusal: (refusal.wanted - refusal.free, refusal.nodename))
    what = dimension.split(".", 1)[-1]
    short = nearest.wanted - nearest.free
    near = f"nearest {nearest.nodename}: {amount(what, nearest.free)}"
    if short <= 0:  # enough in all, but not in one piece
        return f"{what}: {many} without {amount(what, nearest.wanted)} in one piece ({near}{_tail(nearest.detail)})"
    return f"{what}: {many} short by at least {amount(what, short)} ({near}{_tail(nearest.detail)})"


def amount(what: str, value: float) -> str:
    """A number in the unit of a dimension: sizes as `40M`, everything else plain."""
    if not what.endswith(_BYTES):
        return f"{round(value, 9):,g}"
    for unit in ("", "K", "M", "G", "T"):
        if abs(value) < 1024:
            return f"{value:.1f}".rstrip("0").rstrip(".") + unit
        value /= 1024
    return f"{value:.1f}".rstrip("0").rstrip(".") + "P"


def _limit(nodename: str, detail: str) -> Refusal:
    return Refusal(nodename=nodename, reason=Reason.LIMIT, detail=detail)


def _in_brackets(detail: str) -> str:
    return f" ({detail})" if detail else ""


def _tail(detail: str) -> str:
    return f", {detail}" if detail else ""
