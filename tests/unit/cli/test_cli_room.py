"""Room on a node for a change of what its workloads are granted."""

from __future__ import annotations

from typing import Any

import pytest

from eru.cli.workload.room import lacking

G = 1 << 30
NODE = {"cpumem": {"cpu": 2, "cpu_map": {"0": 100, "1": 100}, "memory": 4 * G}}
SHARED = {"cpumem": {"cpu_request": 0.5, "cpu_limit": 0.5, "memory_request": G}}
BOUND = {"cpumem": {"cpu_request": 1.0, "cpu_limit": 1.0, "cpu_map": {"0": 100}, "memory_request": G}}


def change(**more: Any) -> dict[str, dict[str, Any]]:
    return {"cpumem": {key.replace("_", "-"): value for key, value in more.items()}, "storage": {}}


def cores(more: float, *, bind: bool = False) -> dict[str, dict[str, Any]]:
    return change(cpu_request=more, cpu_limit=more, **({"cpu_bind": True} if bind else {"keep_cpu_bind": True}))


@pytest.mark.parametrize(
    ("used", "granted", "delta", "told"),
    [
        # shared cores may be promised several times
        ({"cpu": 9.0, "memory": G}, [SHARED], cores(1), ""),
        ({"cpu": 0.5}, [SHARED], cores(2), "2.5 cores wanted, the node has 2"),
        # cores of its own cannot
        ({"cpu": 9.0, "cpu_map": {"0": 0, "1": 0}}, [SHARED], cores(1, bind=True), ""),
        ({"cpu_map": {"0": 100, "1": 60}}, [SHARED], change(cpu_bind=True), "0.5 wanted, 0.4 free"),
        ({"cpu_map": {"0": 10, "1": 10}}, [SHARED], cores(0.5, bind=True), "1 wanted, 0 free"),
        # its own are given back first
        ({"cpu_map": {"0": 100, "1": 0}}, [BOUND], cores(1), ""),
        ({"cpu_map": {"0": 100, "1": 10}}, [BOUND], cores(1), "2 wanted, 1.9 free"),
        ({"cpu_map": {"0": 100, "1": 100}}, [BOUND], change(), ""),
        # memory is promised once
        ({"memory": 2 * G}, [SHARED, SHARED], change(memory_request=G), ""),
        ({"memory": 3 * G}, [SHARED, SHARED], change(memory_request=G), "memory is short: 2G more wanted, 1G free"),
    ],
)  # fmt: skip
def test_what_a_node_lacks(used: dict[str, Any], granted: list[Any], delta: dict[str, Any], told: str):
    found = "; ".join(lacking(NODE, {"cpumem": used}, granted, delta))
    assert told in found
    assert bool(told) == bool(found)
