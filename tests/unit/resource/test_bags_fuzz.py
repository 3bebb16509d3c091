"""Whatever JSON a bag holds: an answer, or a sentence that says what is wrong. Never anything else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eru.model.errors import EruError, InvalidInput, Refused
from eru.model.nodes import EngineInfo
from eru.resource.registry import builtin_kinds

KINDS = builtin_kinds()
INFO = EngineInfo(type="fake", ncpu=4, memory=1 << 33, storage=1 << 40)
KEYS = {
    "cpumem": [
        *["cpu", "share", "memory", "numa-cpu", "numa-memory", "cpu-request", "cpu-limit", "memory-request"],
        *["memory-limit", "cpu-bind", "keep-cpu-bind"],
    ],
    "storage": [
        *["volumes", "storage", "disks", "rm-disks", "volumes-request", "volume-limit", "storage-request"],
        "storage-limit",
    ],
    "gpu": ["prod_count_map"],
}
ODD = st.sampled_from(
    [
        *["-1", "0", "1e308", "nan", "0:100", "0:100:3", "0:-100,1:50", "1G", "-5G", "AUTO:/d:rw:1G", "AUTO:/d:mrw"],
        *["/a:/b:ro:0:1:1:1:1", "/data:1T", "/dev/a:/:1:1:1:1", "::::::::", "AUTO:/d:rw:-1", "9" * 400, "\0", "\uff11"],
        *[10**400, -(10**400), 1e308, -0.0, 2**63, 0.001, True],
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | ODD
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | ODD.map(str), inner, max_size=3),
    max_leaves=6,
)


def bags(name):
    return st.dictionaries(st.sampled_from(KEYS[name]), JSON, max_size=4)


def answer(work, *arguments, **more):
    try:
        return work(*arguments, **more)
    except EruError as caught:
        error = caught
    assert isinstance(error, InvalidInput | Refused)
    assert 0 < len(str(error)) < 1000
    assert "\n" not in str(error)
    return None


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_bag(name, data):
    kind = KINDS[name]
    node_bag, change, workload, delta = (data.draw(bags(name)) for _ in range(4))
    capacity, usage = answer(kind.node_added, node_bag, INFO) or kind.node_added({}, INFO)
    capacity, usage = answer(kind.node_changed, capacity, usage, change, delta=data.draw(st.booleans())) or (
        capacity,
        usage,
    )
    assert kind.diffs(usage, []) == []
    request = answer(kind.parse_request, workload)
    if request is None:
        return
    grants = [allotment.grant for allotment in answer(kind.allot, capacity, usage, request, 2) or []]
    usage = kind.add(usage, grants)
    for grant in grants[:1]:
        changed = answer(kind.reallot, capacity, usage, grant, delta)
        if changed:
            usage, grants = changed.usage, [changed.allotment.grant, *grants[1:]]
    assert kind.diffs(usage, grants) == []
    assert kind.subtract(usage, grants) == kind.zero(capacity)
