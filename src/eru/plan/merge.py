"""What several kinds say of the same nodes, brought together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eru.plan.contract import Candidates
from eru.resource.contract import UNLIMITED, Measure

# Per node, in planning: far above any count, and a million nodes of it still add up in 64 bits.
CAPACITY_MOST = 1 << 40

Ints = NDArray[np.int64]


def merge(rows: Ints, measures: Sequence[Measure], counts: Ints) -> Candidates:
    """Candidates out of each kind's measure of `rows` and the instances already there (in flight included).

    A node's capacity is the smallest of the kinds', clipped to CAPACITY_MOST.
    Usage and rate are the means of the kinds', weighted by `Measure.weight`:
    the order of the kinds does not matter.
    """
    capacity = np.minimum(merged_capacity(len(rows), measures), CAPACITY_MOST)
    weighing = [measure for measure in measures if measure.weight > 0]
    if len(weighing) == 1:
        usage, rate = weighing[0].usage, weighing[0].rate
    else:
        # Sorted by weight, so that rounding does not depend on the order either.
        ordered = sorted(weighing, key=lambda measure: measure.weight)
        weights = sum(measure.weight for measure in ordered) or 1.0
        usage = sum((measure.usage * measure.weight for measure in ordered), np.zeros(len(rows))) / weights
        rate = sum((measure.rate * measure.weight for measure in ordered), np.zeros(len(rows))) / weights
    return Candidates(row=rows, capacity=capacity, count=counts, usage=usage, rate=rate)


def merged_capacity(nodes: int, measures: Sequence[Measure]) -> Ints:
    """Capacity per node by all kinds, as it is reported: UNLIMITED where nothing binds."""
    if not measures:
        return np.full(nodes, UNLIMITED, np.int64)
    capacity = measures[0].capacity
    for measure in measures[1:]:
        capacity = np.minimum(capacity, measure.capacity)
    return capacity


def total_capacity(capacity: Ints) -> int:
    """The sum as it is reported: UNLIMITED when it is, or would not fit into 64 bits."""
    if len(capacity) == 0:
        return 0
    most = int(capacity.max())
    if most * len(capacity) < UNLIMITED:
        return int(capacity.sum())
    return int(min(sum(capacity.tolist()), UNLIMITED))
