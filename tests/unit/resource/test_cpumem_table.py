"""A table that was told change after change says the same as one that is told only the last state."""

from __future__ import annotations

import random

import numpy as np

from eru.resource.cpumem.kind import CpumemKind

CAPACITY = {
    "cpu": 4.0,
    "cpu_map": {str(core): 100 for core in range(4)},
    "memory": 1 << 30,
    "numa": {},
    "numa_memory": {},
}
UNBOUND = {"cpu-request": 0.5, "memory-request": 1 << 20}
BOUND = {"cpu-request": 1.5, "memory-request": 1 << 20, "cpu-bind": True}


def test_changes_one_after_the_other() -> None:
    kind, chance = CpumemKind(), random.Random(5)
    requests = [kind.parse_request(bag) for bag in (UNBOUND, BOUND)]
    table, rows = kind.table(), np.arange(3)
    state = [(CAPACITY, kind.zero(CAPACITY), []) for _ in range(3)]
    for row, (capacity, usage, _) in enumerate(state):
        table.set(row, capacity, usage)
    for _ in range(300):
        row = chance.randrange(3)
        capacity, usage, grants = state[row]
        if grants and chance.random() < 0.4:
            usage = kind.subtract(usage, [grants.pop(chance.randrange(len(grants)))])
        elif chance.random() < 0.1:
            capacity = {**capacity, "memory": capacity["memory"] + (1 << 20)}
        else:
            request = chance.choices(requests, (3, 1))[0]
            if int(table.measure(request, rows).capacity[row]) == 0:
                continue
            grant = kind.allot(capacity, usage, request, 1)[0].grant
            usage = kind.add(usage, [grant])
            grants.append(grant)
        state[row] = (capacity, usage, grants)
        table.set(row, capacity, usage)
        anew = kind.table()
        for number, (has, uses, _) in enumerate(state):
            anew.set(number, has, uses)
        for request in requests:
            told, fresh = table.measure(request, rows), anew.measure(request, rows)
            assert told.capacity.tolist() == fresh.capacity.tolist()
            assert told.usage.tolist() == fresh.usage.tolist()
            assert told.rate.tolist() == fresh.rate.tolist()


def test_a_deploy_without_cores_of_its_own_leaves_the_maps_as_they_are() -> None:
    kind = CpumemKind()
    usage = kind.zero(CAPACITY)
    after = kind.add(usage, [kind.allot(CAPACITY, usage, kind.parse_request(UNBOUND), 1)[0].grant])
    assert after["memory"] == 1 << 20
    assert after["cpu_map"] is usage["cpu_map"]
    assert after["numa_memory"] is usage["numa_memory"]
