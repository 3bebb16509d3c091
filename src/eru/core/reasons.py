"""The reasons of a refusal: per node as data, and their sum behind the published sentence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from eru.model.errors import EruError, NoCapacity
from eru.model.refusals import Reason, Refusal
from eru.plan.explain import by_strategy, summary

if TYPE_CHECKING:
    from eru.core.planner import Planner, Wish


async def explained(error: EruError, planner: Planner, wish: Wish) -> EruError:
    """The error with its reasons, when it is about capacity; asked in a thread when a kind may take long."""
    if planner.blocking:
        return await asyncio.to_thread(with_reasons, error, planner, wish)
    return with_reasons(error, planner, wish)


def with_reasons(error: EruError, planner: Planner, wish: Wish) -> EruError:
    """As `explained`, at once."""
    if not isinstance(error, NoCapacity) or error.refusals:
        return error
    limits = _limits(planner, wish)
    refusals, meant = planner.refusals(wish)
    refusals = [limits.get(one.nodename, one) if one.reason is Reason.LIMIT else one for one in refusals]
    if not refusals:
        return error
    part = f" (of the first {len(refusals):,} of {meant:,} nodes)" if meant > len(refusals) else ""
    return NoCapacity(f"{error}: {summary(refusals)}{part}", refusals)


async def ruled_out(planner: Planner, wish: Wish) -> list[Refusal]:
    """Nodes that can take none at all, while the request as a whole has its place."""
    told = await asyncio.to_thread(planner.refusals, wish) if planner.blocking else planner.refusals(wish)
    return [one for one in told[0] if one.reason is not Reason.LIMIT]


def _limits(planner: Planner, wish: Wish) -> dict[str, Refusal]:
    """Of nodes that have room: how much of it, and what the strategy makes of that."""
    spec = wish.spec
    rows = planner.select(spec.nodes, wish.excludes)
    if not len(rows):
        return {}
    found = planner.measure(spec.app, spec.entrypoint.name, rows, wish.requests, wish.answers)
    names = [planner.view.name_of(row) for row in rows.tolist()]
    limits = {
        names[at]: Refusal(
            nodename=names[at], reason=Reason.LIMIT, detail=f"has room for {found.capacity[at]:,} of {wish.count:,}"
        )
        for at in np.flatnonzero((found.capacity > 0) & (found.capacity < wish.count)).tolist()
    }
    limits.update({one.nodename: one for one in by_strategy(names, found, spec.strategy, wish.count, wish.nodes_limit)})
    return limits


def on_node(error: NoCapacity, nodename: str) -> NoCapacity:
    """A refusal of one node's resource kind, which does not know its name, with that name."""
    named = [msgspec.structs.replace(refusal, nodename=nodename) for refusal in error.refusals]
    unnamed = Refusal(nodename=nodename, reason=Reason.RESOURCE, detail=str(error))
    return NoCapacity(f"{error}: on node {nodename}", named or [unnamed])
