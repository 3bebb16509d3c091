"""Planning for 10,000 nodes: each strategy, CPU plans, and whole plans from a live table.

    python benchmarks/plan.py [--nodes 10000] [--quick]

Beside each number stands the same work done one instance at a time in plain
Python (benchmarks/plan_twins.py), in the same run; the results must be equal.
With ERU_GO_PLANBENCH=<path> the published Go functions run too: a program
that reads the cases as JSON from stdin and prints {case: milliseconds} (see
benchmarks/README.md). `--quick` leaves out the twin of the largest case.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import plan_twins as twins

from eru.model.deploy import Strategy
from eru.plan.contract import Candidates
from eru.plan.merge import merge
from eru.plan.place import plan, spread_error
from eru.resource.cpumem import CpumemKind
from eru.resource.cpumem.cores import fragmentation
from eru.resource.registry import builtin_kinds

CORES, SHARE, BOUND = 24, 100, 1.3
GO_NAMES = {Strategy.AUTO: "AUTO", Strategy.FILL: "FILL", Strategy.EACH: "EACH", Strategy.GLOBAL: "GLOBAL"}
GO_NAMES[Strategy.DRAINED] = "DRAINED"


@dataclass
class Case:
    """One strategy on one cluster."""

    name: str
    strategy: Strategy
    count: int
    nodes: Candidates
    twin: Callable[[], list[int]]
    limit: int = 0
    rounds: int = 30
    results: dict[str, float] = field(default_factory=dict)


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, float, Any]:
    """(best, median, result) in milliseconds."""
    times, result = [], None
    for _ in range(rounds):
        started = time.perf_counter()
        result = work()
        times.append((time.perf_counter() - started) * 1e3)
    return min(times), sorted(times)[len(times) // 2], result


def cluster(nodes: int, *, fresh: bool) -> Candidates:
    """Either all alike and empty, or used unevenly."""
    chance = np.random.default_rng(1)
    rows = np.arange(nodes)
    if fresh:
        zeros = np.zeros(nodes, np.int64)
        return Candidates(rows, np.full(nodes, 1024), zeros, np.zeros(nodes), np.full(nodes, 1 / 1024))
    return Candidates(
        rows,
        chance.integers(20, 1024, nodes),
        chance.integers(0, 20, nodes),
        chance.random(nodes),
        chance.random(nodes) / 100 + 1e-4,
    )


def cases(nodes: int) -> list[Case]:
    new, old = cluster(nodes, fresh=True), cluster(nodes, fresh=False)
    usage, rate = old.usage.tolist(), old.rate.tolist()
    count, capacity = old.count.tolist(), old.capacity.tolist()
    zeros, full = new.count.tolist(), new.capacity.tolist()
    most = 1024 * nodes - 1

    def case(name: str, strategy: Strategy, many: int, on: Candidates, twin: Callable[[], list[int]]) -> Case:
        return Case(name, strategy, many, on, twin)

    return [
        case(f"even spread, {most:,}", Strategy.AUTO, most, new, lambda: twins.auto(zeros, full, most, 0)),
        case("even spread, 3", Strategy.AUTO, 3, old, lambda: twins.auto(count, capacity, 3, 0)),
        case("drained, 3", Strategy.DRAINED, 3, old, lambda: twins.drained(usage, capacity, 3)),
        case("global, 3", Strategy.GLOBAL, 3, old, lambda: twins.global_(usage, rate, capacity, 3)),
        case("global, 10,000", Strategy.GLOBAL, 10_000, old, lambda: twins.global_(usage, rate, capacity, 10_000)),
        case("each, 10", Strategy.EACH, 10, old, lambda: twins.each(capacity, 10, 0)),
        case("fill to 20", Strategy.FILL, 20, old, lambda: twins.fill(count, capacity, 20, 0)),
    ]


def published(all_cases: list[Case], nodes: int) -> dict[str, float]:
    """Milliseconds of the published functions; empty when there is no program for it."""
    program = os.environ.get("ERU_GO_PLANBENCH")
    if not program:
        print("published Go functions: left out, ERU_GO_PLANBENCH is not set\n")
        return {}
    told = [
        {
            "name": case.name,
            "strategy": GO_NAMES[case.strategy],
            "count": case.count,
            "limit": case.limit,
            "nodes": [
                {"name": f"node-{i:05}", "capacity": c, "count": n, "usage": u, "rate": r}
                for i, (c, n, u, r) in enumerate(
                    zip(
                        case.nodes.capacity.tolist(),
                        case.nodes.count.tolist(),
                        case.nodes.usage.tolist(),
                        case.nodes.rate.tolist(),
                        strict=True,
                    )
                )
            ],
        }
        for case in all_cases
    ]
    cpu = {"nodes": nodes, "cores": CORES, "share": SHARE, "request": BOUND}
    done = subprocess.run(
        [program], input=json.dumps({"cases": told, "cpu": cpu}), capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def line(name: str, best: float, median: float, twin: float | None, go: float | None, quality: str) -> None:
    def against(other: float | None) -> str:
        return f"{other:>10,.2f} {other / median:>8,.0f}x" if other is not None else f"{'-':>10} {'-':>9}"

    print(f"{name:<38}{best:>9.3f}{median:>9.3f} {against(twin)} {against(go)}  {quality}")


def strategies(nodes: int, go: dict[str, float], all_cases: list[Case], *, quick: bool) -> None:
    for case in all_cases:
        best, median, got = timed(
            lambda case=case: plan(case.nodes, case.strategy, case.count, case.limit), case.rounds
        )
        twin_ms = None
        quality = "not compared with the twin"
        if not (quick and case.count > 1_000_000):
            started = time.perf_counter()
            expected = case.twin()
            twin_ms = (time.perf_counter() - started) * 1e3
            if got.tolist() != expected:
                sys.exit(f"{case.name}: the plan differs from the twin's")
            quality = "as the twin"
        if case.strategy is Strategy.AUTO:
            quality += f", spread error {spread_error(case.nodes, got)}"
        line(case.name, best, median, twin_ms, go.get(case.name), quality)


def node_records(nodes: int, kind: CpumemKind, *, used: bool) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    chance = random.Random(1)
    records = []
    for _ in range(nodes):
        capacity = {
            "cpu": CORES,
            "cpu_map": {str(core): SHARE for core in range(CORES)},
            "memory": 128 << 30,
            "numa": {},
            "numa_memory": {},
        }
        usage = kind.zero(capacity)
        if used:
            pieces = {core: chance.choice([0, 0, 0, 30, 60, 100]) for core in usage["cpu_map"]}
            usage |= {"cpu_map": pieces, "cpu": sum(pieces.values()) / SHARE, "memory": chance.randrange(64 << 30)}
        records.append((capacity, usage))
    return records


def bound_plans(nodes: int, go: dict[str, float]) -> None:
    """All plans of 1.3 bound cores on empty nodes of 24 cores: counted, and made."""
    kind = CpumemKind()
    request = kind.parse_request({"cpu-request": BOUND, "cpu-bind": True})
    records = node_records(nodes, kind, used=False)
    rows = np.arange(nodes)

    def count() -> int:
        table._kept.clear()  # as if the request were new
        return int(table.measure(request, rows).capacity.sum())

    table = kind.table()
    for row, record in enumerate(records):
        table.set(row, *record)
    best, median, total = timed(count, 20)
    started = time.perf_counter()
    made = [kind.allot(*record, request, total // nodes) for record in records]
    made_ms = (time.perf_counter() - started) * 1e3
    free = dict(records[0][0]["cpu_map"])
    for allotment in made[0]:
        for core, pieces in allotment.grant["cpu_map"].items():
            free[core] -= pieces
    left = sum(free.values()) / (CORES * SHARE)
    quality = f"{total:,} instances, {1 - left:.1%} of all pieces used"
    quality += f", {fragmentation(free, SHARE):.0%} of the rest on broken cores"
    line("bound 1.3 cores, counted", best, median, made_ms, go.get("bound plans"), quality)
    line("bound 1.3 cores, every plan made", made_ms, made_ms, None, go.get("bound plans"), "")


def candidates(tables: dict[str, Any], requests: dict[str, Any], rows: Any, counts: Any) -> Candidates:
    return merge(rows, [table.measure(requests[kind], rows) for kind, table in tables.items()], counts)


def whole(nodes: int) -> None:
    """Capacity of all kinds, merge and strategy, as one deploy does it from the live view."""
    for used in (False, True):
        kinds = builtin_kinds()
        tables = {name: kind.table() for name, kind in kinds.items()}
        records = node_records(nodes, kinds["cpumem"], used=used)  # type: ignore[arg-type]
        started = time.perf_counter()
        for row, (capacity, usage) in enumerate(records):
            tables["cpumem"].set(row, capacity, usage)
            tables["storage"].set(row, {}, {})
            tables["gpu"].set(row, {}, {})
        set_us = (time.perf_counter() - started) * 1e6 / nodes
        rows, counts = np.arange(nodes), np.random.default_rng(2).integers(0, 20, nodes) * used
        print(
            f"\nfrom the live table, {'nodes half used' if used else 'empty nodes'} (one node changed: {set_us:.0f} us)"
        )
        unbound = {"cpumem": {"cpu-request": 0.1, "memory-request": "64M"}}
        bound = {"cpumem": {"cpu-request": BOUND, "cpu-bind": True, "memory-request": "64M"}}
        for name, bags, count in (
            ("unbound, 3", unbound, 3),
            ("unbound, all that fits", unbound, 0),
            ("bound, 3", bound, 3),
            ("bound, 3, request never seen", bound, 3),
            ("bound, 3, 100 nodes changed", bound, 3),
            ("bound, all that fits", bound, 0),
        ):
            requests = {name: kind.parse_request(bags.get(name)) for name, kind in kinds.items()}

            look = functools.partial(candidates, tables, requests, rows, counts)
            many = count or int(look().capacity.sum())
            times = []
            for round_ in range(40):
                if "never" in name:
                    tables["cpumem"]._kept.clear()  # type: ignore[attr-defined]
                if "changed" in name:
                    for row in range(round_ * 100, round_ * 100 + 100):
                        tables["cpumem"].set(row % nodes, *records[row % nodes])
                started = time.perf_counter()
                found = look()
                got = plan(found, Strategy.AUTO, many)
                times.append((time.perf_counter() - started) * 1e3)
            quality = f"{many:,} instances, spread error {spread_error(found, got)}"
            line(name, min(times), sorted(times)[20], None, None, quality)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="leave out the twin of the largest case")
    given = parser.parse_args()
    print(f"{given.nodes:,} nodes; Python {platform.python_version()}, NumPy {np.__version__}, {os.cpu_count()} CPUs")
    all_cases = cases(given.nodes)
    go = published(all_cases, given.nodes)
    print(f"{'milliseconds':<38}{'best':>9}{'median':>9} {'one by one':>10} {'':>9} {'published':>10} {'':>9}  quality")
    strategies(given.nodes, go, all_cases, quick=given.quick)
    bound_plans(given.nodes, go)
    whole(given.nodes)


if __name__ == "__main__":
    main()
