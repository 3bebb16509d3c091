"""The smallest of many arithmetic series, as a heap would take them one by one, but all at once.

Node i's instances have the keys usage[i] + j * rate[i] for j = 1, 2, ...
A threshold is narrowed until few keys lie around it; only those are sorted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eru.plan.select import first

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RATE_LEAST = 1e-12  # smaller rates count as 0: adding them to a usage would be lost in rounding

_GUESSES_MAX = 12  # rounds of approximation before the exact search


def steady(rate: Floats) -> Floats:
    """Rates without those that are lost in rounding."""
    return np.where(rate < RATE_LEAST, 0.0, rate)


def lowest_keys(usage: Floats, rate: Floats, room: Ints, need: int) -> Ints:
    """How many of the `need` smallest keys each node has; it has `room` keys. Equal keys: lower position first.

    The sum of `room` must be at least `need`, and `rate` is 0 or at least RATE_LEAST (see `steady`).
    """
    series = _Series(usage, rate, room)
    if int(room.sum()) <= need:
        return room.copy()
    low, high = series.bracket(need)
    below, upto = series.until(low), series.until(high)
    few = 2 * len(usage) + 1024
    while int((upto - below).sum()) > few:
        middle = (low + high) / 2
        if not low < middle < high:
            return below + _in_turn(upto - below, need - int(below.sum()))
        here = series.until(middle)
        if int(here.sum()) <= need:
            low, below = middle, here
        else:
            high, upto = middle, here
    return below + series.smallest(below, upto - below, need - int(below.sum()))


class _Series:
    """The keys of all nodes."""

    def __init__(self, usage: Floats, rate: Floats, room: Ints) -> None:
        self.usage, self.rate, self.room = usage, rate, room
        self.moves = rate > 0
        self.divisor = np.where(self.moves, rate, 1.0)

    def until(self, threshold: float) -> Ints:
        """How many keys of each node are at most `threshold`."""
        steps = np.clip(np.floor((threshold - self.usage) / self.divisor), 0, self.room)
        # Division rounds: the keys themselves decide.
        steps -= (steps > 0) & (self.usage + steps * self.rate > threshold)
        steps += (steps < self.room) & (self.usage + (steps + 1) * self.rate <= threshold)
        still = np.where(self.usage <= threshold, self.room, 0)
        return np.where(self.moves, steps.astype(np.int64), still)

    def bracket(self, need: int) -> tuple[float, float]:
        """Thresholds with at most `need` keys up to the first, at least `need` up to the second."""
        floor = float(np.nextafter((self.usage + self.rate).min(), -np.inf))
        ceiling = float((self.usage + self.room * self.rate).max())
        if not self.moves.any():
            return floor, ceiling
        guess, step = self.guess(need)
        low, high = floor, ceiling
        if floor < guess < ceiling:
            if int(self.until(guess).sum()) <= need:
                low = guess
                while (tried := low + step) < ceiling:
                    if int(self.until(tried).sum()) >= need:
                        return low, tried
                    low, step = tried, step * 2
            else:
                high = guess
                while (tried := high - step) > floor:
                    if int(self.until(tried).sum()) <= need:
                        return tried, high
                    high, step = tried, step * 2
        return low, high

    def guess(self, need: int) -> tuple[float, float]:
        """A threshold near the one wanted, as if instances could be split, and the width of about one round."""
        top = self.usage + self.room * self.rate
        inverse = np.where(self.moves, 1.0 / self.divisor, 0.0)
        weighted = self.usage * inverse
        level: float = (need + float(weighted.sum())) / float(inverse.sum())  # were all in use and none ever full
        width: float = np.count_nonzero(self.moves) / float(inverse.sum())
        for _ in range(_GUESSES_MAX):
            started, ended = self.usage < level, top <= level
            open_ = started & ~ended
            slope = float(inverse[open_].sum())
            if slope <= 0:
                break
            better = (need - float(self.room[ended].sum()) + float(weighted[open_].sum())) / slope
            width = float(np.count_nonzero(open_)) / slope
            if abs(better - level) <= width / 2:
                return better, width
            level = better
        return level, width

    def smallest(self, taken: Ints, more: Ints, need: int) -> Ints:
        """How many of the `need` smallest among the next `more` keys of each node, `taken` being gone, each has."""
        position = np.repeat(np.arange(len(more)), more)
        before = np.cumsum(more) - more
        step = taken[position] + 1 + (np.arange(len(position)) - before[position])
        keys = self.usage[position] + step * self.rate[position]
        return np.bincount(position[first(need, keys)], minlength=len(more)).astype(np.int64)


def _in_turn(available: Ints, need: int) -> Ints:
    """`need` out of what is available, all of the first before the second."""
    before = np.cumsum(np.minimum(available, need)) - np.minimum(available, need)
    return np.asarray(np.clip(need - before, 0, available))
