"""Capacity: how many instances would fit, or where exactly a deploy would land. Changes nothing."""

from __future__ import annotations

import asyncio

from eru.core import accounts
from eru.core.accounts import parse_requests
from eru.core.app import Core
from eru.core.planner import Wish, request_of
from eru.core.reasons import explained, ruled_out
from eru.core.specs import check_deploy
from eru.model.deploy import DeploySpec, Strategy
from eru.model.errors import InvalidInput, NoCapacity, NotFound, Refused
from eru.model.names import check_entrypoint
from eru.model.results import Capacity, DryRun, Placement
from eru.plan.merge import CAPACITY_MOST
from eru.plan.strategies import NOT_ENOUGH_RESOURCE
from eru.resource.contract import UNLIMITED

_PLACEMENTS_MAX = 100_000  # of one dry run


async def capacity(core: Core, spec: DeploySpec) -> Capacity:
    """Node -> instances: all that fit for DUMMY, else as the strategy would spread them.

    Raises NoCapacity or Refused with the reasons, InvalidInput.
    """
    check_entrypoint(spec.entrypoint.name)
    wish = request_of(spec, parse_requests(core.kinds, spec.resources))
    await core.fleet.fresh()
    if spec.strategy is Strategy.DUMMY:
        return await _all_that_fits(core, await core.planner.warm(wish))
    if spec.count <= 0:
        raise InvalidInput(f"count: {spec.count}: invalid deploy count")
    planner = core.planner
    try:
        wish = await planner.warm(wish)
        decision = planner.decide(wish)
    except (NoCapacity, Refused) as error:
        raise await explained(error, planner, wish) from None
    name_of = core.fleet.view.name_of
    nodes = {name_of(row): n for row, n in zip(decision.rows.tolist(), decision.counts.tolist(), strict=True)}
    if spec.strategy is Strategy.FILL:
        nodes = {**_full_enough(core, wish), **nodes}
    return Capacity(total=decision.total, nodes=nodes, revision=core.fleet.revision)


def _full_enough(core: Core, wish: Wish) -> dict[str, int]:
    """Nodes that belong to a FILL and need nothing more, each with 0, as clients know it."""
    planner, spec = core.planner, wish.spec
    rows = planner.select(spec.nodes)
    found = planner.measure(spec.app, spec.entrypoint.name, rows, wish.requests, wish.answers)
    table = zip(found.count.tolist(), found.capacity.tolist(), found.row.tolist(), strict=True)
    full = sorted((-count, -fits, row) for count, fits, row in table if fits > 0 and count >= spec.count)
    return {core.fleet.view.name_of(row): 0 for _, _, row in full[: spec.nodes_limit or None]}


async def _all_that_fits(core: Core, wish: Wish) -> Capacity:
    planner, spec = core.planner, wish.spec
    rows = planner.select(spec.nodes)
    told = planner.measure(spec.app, spec.entrypoint.name, rows, wish.requests, wish.answers) if len(rows) else None
    fits = told.capacity.tolist() if told is not None else []
    names = [core.fleet.view.name_of(row) for row in rows.tolist()]
    reported = (many if many < CAPACITY_MOST else UNLIMITED for many in fits)
    nodes = {name: int(many) for name, many in zip(names, reported, strict=True) if many > 0}
    if not nodes:
        text = f"no node meets all the resource requirements at the same time: {NOT_ENOUGH_RESOURCE}"
        raise await explained(NoCapacity(text), planner, wish)
    return Capacity(total=min(sum(nodes.values()), int(UNLIMITED)), nodes=nodes, revision=core.fleet.revision)


async def dry_run(core: Core, spec: DeploySpec) -> DryRun:
    """The exact placement a deploy would have at the returned revision, and why not elsewhere.

    Raises InvalidInput, Refused for a request that is wrong in itself.
    """
    check_deploy(spec, core.settings)
    wish = request_of(spec, parse_requests(core.kinds, spec.resources))
    begun = core.world.clock.monotonic()
    await core.fleet.fresh()
    planner, view = core.planner, core.fleet.view
    result = DryRun(revision=core.fleet.revision)
    try:
        wish = await planner.warm(wish)
        decision = planner.decide(wish)
    except (NoCapacity, Refused, NotFound) as error:
        result.error = why = await explained(error, planner, wish)
        result.refusals = why.refusals if isinstance(why, NoCapacity) else []
    else:
        result.considered = decision.considered
        result.refusals = await ruled_out(planner, wish)
        sequence = 0
        for row, many in zip(decision.rows.tolist(), decision.counts.tolist(), strict=True):
            found = view.by_name[view.name_of(row)]
            told = (core.kinds, found.capacity, found.usage, wish.requests, many)
            shares, _ = await asyncio.to_thread(accounts.allot, *told) if planner.blocking else accounts.allot(*told)
            for grant, _ in shares[: max(_PLACEMENTS_MAX - sequence, 0)]:
                result.placements.append(Placement(nodename=found.name, sequence=sequence, grant=grant))
                sequence += 1
    result.seconds = core.world.clock.monotonic() - begun
    return result
