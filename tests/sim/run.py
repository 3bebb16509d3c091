"""Runs simulated lives: `python tests/sim/run.py 1-500`, or one seed with its story: `... run.py 42`."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import structlog

from sim.life import live


def main(arguments: list[str]) -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    text = arguments[0] if arguments else "1-300"
    first, dash, last = text.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    loud = not dash
    if loud and "-v" in arguments:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    begun = time.perf_counter()
    bad, crashes, faults, virtual_s = [], 0, 0, 0.0
    for seed in seeds:
        verdict = live(seed, loud=loud)
        crashes += verdict.crashes
        faults += verdict.faults
        virtual_s += verdict.virtual_s
        if verdict.wrong:
            bad.append(seed)
            print(f"seed {seed}:")
            for sentence in verdict.wrong[:8]:
                print(f"    {sentence}")
    took = time.perf_counter() - begun
    print(
        f"{len(seeds)} lives, {len(bad)} with violations {bad[:20]}; {crashes} crashes, {faults} events, "
        f"{virtual_s / 3600:.1f} simulated hours in {took:.1f} s"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
