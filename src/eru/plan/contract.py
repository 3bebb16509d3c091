"""Shapes that go into and come out of planning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Candidates:
    """The nodes a strategy chooses from; one element per node, all arrays the same length.

    Order is the tie-breaking order: sorted by node name, so equal inputs give
    equal plans. `row` is the node's index in the live view.
    capacity is clipped so that sums never overflow (see `merge`).
    """

    row: NDArray[np.int64]
    capacity: NDArray[np.int64]  # instances of this request that still fit
    count: NDArray[np.int64]  # instances of the same app and entrypoint here, with those in flight
    usage: NDArray[np.float64]  # merged share in use
    rate: NDArray[np.float64]  # merged share per instance


# What a strategy returns: how many instances each candidate gets (int64, same
# order as the candidates). FILL may accept a node with 0.
Plan = NDArray[np.int64]
