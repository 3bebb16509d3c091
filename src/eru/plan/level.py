"""Even spread by water-filling: find the level, give the rest one each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eru.plan.select import first

Ints = NDArray[np.int64]


def spread_by_level(count: Ints, room: Ints, capacity: Ints, need: int) -> Ints:
    """How many of `need` instances each node gets when the lowest count is always raised first.

    `room`: how many the node may take (its sum is at least `need`);
    `capacity`: decides among nodes of equal count, the larger remainder first.
    """
    low, high = _bounds(count, room, need)
    while low < high:
        middle = (low + high + 1) // 2
        if int(_up_to(middle, count, room).sum()) <= need:
            low = middle
        else:
            high = middle - 1
    plan = _up_to(low, count, room)
    rest = need - int(plan.sum())
    if rest:
        open_ = ((count + plan <= low) & (plan < room)).nonzero()[0]
        plan[open_[first(rest, plan[open_] - capacity[open_])]] += 1
    return plan


def _up_to(level: int, count: Ints, room: Ints) -> Ints:
    plan = level - count
    np.maximum(plan, 0, out=plan)  # np.clip asks for the limits of integers each time
    np.minimum(plan, room, out=plan)
    return plan


def _bounds(count: Ints, room: Ints, need: int) -> tuple[int, int]:
    """Levels between which the highest one with at most `need` instances lies."""
    top = int((count + room).max())
    if int(room.sum()) <= need:
        return top, top
    # Were all nodes at the lowest count and without bounds, the level would be `low`; it cannot be lower.
    low = int(count.min()) + need // len(count)
    return low, max(low, min(top, int(count.max()) + need))
