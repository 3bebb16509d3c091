"""How a long-running process lets Python look for garbage."""

from __future__ import annotations

import gc

_YOUNG_MAX = 50_000  # new containers between two looks at the youngest
_MIDDLE_ROUNDS = 20
_OLD_ROUNDS = 50


def settle_memory() -> None:
    """Call once after start: what lives now lives for ever and is not looked at again.

    A core's live view is hundreds of thousands of objects without cycles;
    looking through them for garbage costs pauses of a good part of a second
    and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_MAX, _MIDDLE_ROUNDS, _OLD_ROUNDS)
