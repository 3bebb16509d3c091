"""The time of day for what must not wait for an event loop to be loaded: the shell's completion."""

from __future__ import annotations

import time


def now_s() -> float:
    """Seconds since the epoch; everything else takes its clock from `World`."""
    return time.time()
