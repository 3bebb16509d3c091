"""How instances are spread over nodes: one function per strategy, all vectorised.

Each takes the candidates, the count and the limit of the request and returns
how many instances each node gets. Equal inputs give equal plans: ties go to
the node that comes first. The sentences of the errors are a contract.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eru.model.errors import NoCapacity, Refused
from eru.plan.contract import Candidates, Plan
from eru.plan.level import spread_by_level
from eru.plan.lowest import lowest_keys, steady
from eru.plan.select import first, in_order

NOT_ENOUGH_RESOURCE = "cannot alloc a plan, not enough resource"
NOT_ENOUGH_CAPACITY = "cannot alloc a plan, not enough nodes capacity"
ALREADY_FILLED = "cannot alloc a fill node plan, each node has enough workloads"

Ints = NDArray[np.int64]


def auto(nodes: Candidates, count: int, limit: int) -> Plan:
    """`count` more instances as evenly as possible; at most `limit` in all on one node (0: no limit).

    The next one always goes to the node with the fewest instances, and among
    those to the one with the most room.
    """
    able = _open(nodes, count)
    if limit:
        able = able[nodes.count[able] < limit]
    capacity, counts = nodes.capacity, nodes.count
    if count < len(able):  # a node that gets one is among the first `count`
        if len(able) < len(capacity):
            capacity, counts = capacity[able], counts[able]
        able = able[first(count, counts, lambda tied: -capacity[tied])]
    plan = np.zeros(len(nodes.capacity), np.int64)
    if count == 1 and len(able) == 1:  # chosen already
        plan[able] = 1
        return plan
    counts, capacity = nodes.count[able], nodes.capacity[able]
    room = np.minimum(capacity, count)
    if limit:
        room = np.minimum(room, limit - counts)
        if int(room.sum()) < count:
            raise NoCapacity(f"reached nodelimit, a node can host at most {limit} instances: {NOT_ENOUGH_RESOURCE}")
    plan[able] = spread_by_level(counts, room, capacity, count)
    return plan


def fill(nodes: Candidates, count: int, limit: int) -> Plan:
    """Bring `limit` nodes (0: all) to `count` instances each; nodes that have most of them already come first.

    A node that is full counts when it has enough instances.
    """
    missing = np.maximum(count - nodes.count, 0)
    known = np.flatnonzero((nodes.capacity > 0) | (missing == 0))
    wanted = limit or len(known)
    if len(known) < wanted or not len(known):
        raise NoCapacity(f"node len {len(known)} cannot alloc a fill node plan: {NOT_ENOUGH_RESOURCE}")
    able = known[nodes.capacity[known] >= missing[known]]
    if len(able) < wanted:
        raise NoCapacity(
            f"not enough nodes that can fill up to {count} instances, require {wanted - len(able)} nodes: "
            f"{NOT_ENOUGH_RESOURCE}"
        )
    chosen = able[first(wanted, -nodes.count[able], lambda tied: -nodes.capacity[able[tied]])]
    plan = np.zeros(len(missing), np.int64)
    plan[chosen] = missing[chosen]
    if not plan.any():
        raise Refused(ALREADY_FILLED)
    return plan


def each(nodes: Candidates, count: int, limit: int) -> Plan:
    """`count` instances on each of the `limit` roomiest nodes (0: all)."""
    known = np.flatnonzero(nodes.capacity > 0)
    if len(known) < limit:
        raise NoCapacity(f"node len {len(known)} < limit, cannot alloc an average node plan: {NOT_ENOUGH_RESOURCE}")
    wanted = limit or len(known)
    able = known[nodes.capacity[known] >= count]
    if not len(able):
        raise NoCapacity(f"insufficient nodes, at least 1 needed: {NOT_ENOUGH_CAPACITY}")
    if len(able) < wanted:
        raise NoCapacity(f"not enough nodes with capacity of {count}, require {wanted} nodes: {NOT_ENOUGH_RESOURCE}")
    plan = np.zeros(len(nodes.capacity), np.int64)
    plan[able[first(wanted, -nodes.capacity[able])]] = count
    return plan


def global_(nodes: Candidates, count: int, limit: int) -> Plan:
    """`count` more instances where the share in use stays lowest; `limit` means nothing here.

    The next one always goes to the node whose usage would be lowest with it.
    """
    able = _open(nodes, count)
    rate = steady(nodes.rate)
    if count < len(able):  # a node that gets one is among the first `count`
        able = able[first(count, nodes.usage[able] + rate[able])]
    plan = np.zeros(len(nodes.capacity), np.int64)
    room = np.minimum(nodes.capacity[able], count)
    plan[able] = lowest_keys(nodes.usage[able], rate[able], room, count)
    return plan


def drained(nodes: Candidates, count: int, limit: int) -> Plan:
    """`count` more instances on the fewest free places: the node with the least room is filled first.

    Equal room: the fuller node first. `limit` means nothing here.
    """
    able = _open(nodes, count)
    if count < len(able):  # each of them takes at least one
        able = able[first(count, nodes.capacity[able], lambda tied: -nodes.usage[able[tied]])]
    able = able[in_order(nodes.capacity[able], -nodes.usage[able])]
    room = np.minimum(nodes.capacity[able], count)
    before = np.cumsum(room) - room
    plan = np.zeros(len(nodes.capacity), np.int64)
    plan[able] = np.clip(count - before, 0, room)
    return plan


def _open(nodes: Candidates, count: int) -> Ints:
    """Nodes with room. Raises NoCapacity when there is not enough of it in all."""
    able = nodes.capacity.nonzero()[0]
    if len(able) < count:
        total = int(np.minimum(nodes.capacity[able], count).sum())
        if total < count:
            raise NoCapacity(f"need: {count}, available: {total}: {NOT_ENOUGH_RESOURCE}")
    return able
