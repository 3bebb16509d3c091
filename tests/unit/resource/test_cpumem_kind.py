"""The cpumem kind: what it reads, refuses, gives, and how it accounts for it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eru.model.errors import EruError, InvalidInput, NoCapacity, Refused
from eru.model.nodes import EngineInfo
from eru.resource.contract import UNLIMITED
from eru.resource.cpumem import CpumemKind

KIND = CpumemKind()
G = 1 << 30
INFO = EngineInfo(type="fake", ncpu=4, memory=10 * G)


def node(cpu=4, memory=4 * G, **more):
    return KIND.node_added({"cpu": cpu, "memory": memory, **more}, INFO)


def used(usage, capacity, bag, count=1):
    grants = [a.grant for a in KIND.allot(capacity, usage, KIND.parse_request(bag), count)]
    return KIND.add(usage, grants), grants


# What a workload asks for.


def asked(**bag):
    request = KIND.parse_request({key.replace("_", "-"): value for key, value in bag.items()})
    return request.cpu_request, request.cpu_limit, request.memory_request, request.memory_limit


@pytest.mark.parametrize(
    ("bag", "expected"),
    [
        ({}, (0, 0, 0, 0)),
        ({"cpu_limit": 1, "memory_limit": 512}, (1, 1, 512, 512)),
        ({"cpu_request": 1}, (1, 0, 0, 0)),
        ({"cpu_request": 2, "cpu_limit": 1, "memory_request": 9, "memory_limit": 5}, (2, 2, 9, 9)),
        ({"cpu_request": 1, "cpu_limit": 3, "cpu_bind": True}, (3, 3, 0, 0)),
        ({"cpu_request": 1, "cpu_bind": "true"}, (1, 0, 0, 0)),
        ({"cpu_request": "0.5", "memory_request": "1G"}, (0.5, 0, G, 0)),
        ({"memory_request": "512M", "memory_limit": "1.5GiB"}, (0, 0, 512 << 20, 3 << 29)),
        ({"memory_request": "1024", "cpu_bind": False, "cpu": 7}, (0, 0, 1024, 0)),
        ({"memory_request": None, "cpu_request": "", "cpu_bind": None}, (0, 0, 0, 0)),
    ],
)
def test_request_rules(bag, expected):
    assert asked(**bag) == expected


@pytest.mark.parametrize(
    ("bag", "words"),
    [
        ({"cpu_request": -1}, ["cpu-request", "-1", "invalid cpu"]),
        ({"memory_limit": -5}, ["memory-limit", "-5", "invalid memory"]),
        ({"cpu_bind": True}, ["unlimited request with bind"]),
        ({"cpu_bind": True, "cpu_request": 0.001}, ["0.001", "less than one piece", "0.01"]),
        ({"cpu_request": float("nan")}, ["cpu-request", "nan"]),
        ({"cpu_request": "inf"}, ["cpu-request", "inf"]),
        ({"cpu_request": 1e308, "cpu_bind": True}, ["cpu-request", "1e+308"]),
        ({"cpu_request": 10**400}, ["cpu-request"]),
        ({"cpu_request": True}, ["cpu-request", "True"]),
        ({"cpu_request": [1]}, ["cpu-request", "[1]"]),
        ({"cpu_request": "one"}, ["cpu-request", "'one'"]),
        ({"memory_request": float("inf")}, ["memory-request", "inf"]),
        ({"memory_request": 1e30}, ["memory-request"]),
        ({"memory_request": 10**5000}, ["memory-request"]),
        ({"memory_request": "1Q"}, ["memory-request", "'1Q'", "512M"]),
        ({"memory_request": "9" * 5000}, ["memory-request"]),
        ({"memory_request": False}, ["memory-request", "False"]),
        ({"cpu_bind": "maybe"}, ["cpu-bind", "'maybe'"]),
    ],
)
def test_wrong_requests_name_the_field_and_the_value(bag, words):
    with pytest.raises(InvalidInput) as error:
        asked(**bag)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert len(str(error.value)) < 300


# What a node has.


def test_new_node_takes_what_the_engine_has():
    capacity, usage = KIND.node_added(None, INFO)
    assert capacity == {
        "cpu": 4,
        "cpu_map": {"0": 100, "1": 100, "2": 100, "3": 100},
        "memory": 8 * G,
        "numa": {},
        "numa_memory": {},
    }
    assert usage == {"cpu": 0.0, "cpu_map": dict.fromkeys("0123", 0), "memory": 0, "numa": {}, "numa_memory": {}}


def test_the_engines_own_record_goes_before_its_plain_numbers():
    own = {"cpu": 2, "memory": 10, "numa": {"0": "0", "1": "1"}, "numa_memory": {"0": 5, "1": 5}}
    info = EngineInfo(type="virt", ncpu=8, memory=100, resources={"cpumem": json.dumps(own).encode()})
    capacity, _ = KIND.node_added({}, info)
    assert capacity["cpu"] == 2
    assert capacity["memory"] == 8
    assert capacity["numa_memory"] == {"0": 4, "1": 4}


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [
        (2, {"0": 100, "1": 100}),
        ("3", {"0": 100, "1": 100, "2": 100}),
        (2.6, {"0": 100, "1": 100, "2": 100}),
        ("0:50,7:200", {"0": 50, "7": 200}),
        ({"0": 100, "1": "30"}, {"0": 100, "1": 30}),
    ],
)
def test_cores_of_a_node(cpu, expected):
    assert node(cpu)[0]["cpu_map"] == expected


def test_share_sets_the_pieces_of_each_core():
    assert node(2, share="150")[0]["cpu_map"] == {"0": 150, "1": 150}


@pytest.mark.parametrize(
    "cpu",
    [
        *["abc", "-1", "0", 0, -1, "0:100:3", "a:100", "0:", "0:x", ":5", "0:-5", "0:100,0:50", "01:100", "٣:100"],
        *["²:1", "0:100,,1:100", True, [4], float("nan"), float("inf"), 1e308, 10**400, "1e400", 5000, "0:0"],
        "0:99999999999",
    ],
)
def test_malformed_cores_are_refused(cpu):
    with pytest.raises(InvalidInput) as error:
        node(cpu)
    assert "cpu" in str(error.value)


@pytest.mark.parametrize("memory", ["-5G", 0, "0", -1, "much", float("nan"), True, [1]])
def test_malformed_memory_is_refused(memory):
    with pytest.raises(InvalidInput, match="memory"):
        node(memory=memory)


def test_numa_memory_is_divided_by_numa_nodes():
    capacity, usage = node(6, memory=6 * G, **{"numa-cpu": ["0,1,2", "3,4,5"]})
    assert capacity["numa"] == {"0": "0", "1": "0", "2": "0", "3": "1", "4": "1", "5": "1"}
    assert capacity["numa_memory"] == {"0": 3 * G, "1": 3 * G}
    assert usage["numa_memory"] == {"0": 0, "1": 0}


@pytest.mark.parametrize(
    "bag",
    [
        {"numa-cpu": ["0,1", "1,2,3"]},
        {"numa-cpu": ["0,1"]},
        {"numa-cpu": ["0,1,2,3,4"]},
        {"numa-cpu": ["x"]},
        {"numa-cpu": 5},
        {"numa-cpu": ["0,1", "2,3"], "numa-memory": ["1G"]},
        {"numa-cpu": ["0,1", "2,3"], "numa-memory": ["1G", "-1G"]},
        {"numa-memory": "1G"},
    ],
)
def test_malformed_numa_is_refused(bag):
    with pytest.raises(InvalidInput, match="numa"):
        node(4, **bag)


def test_an_engine_without_numbers_asks_for_them():
    with pytest.raises(InvalidInput, match="give cpu"):
        KIND.node_added({}, EngineInfo(type="fake"))
    with pytest.raises(InvalidInput, match="give memory"):
        KIND.node_added({"cpu": 1}, EngineInfo(type="fake"))


def test_absolute_change_keeps_what_is_not_given():
    capacity, usage = node()
    after, used_after = KIND.node_changed(capacity, usage, {"cpu": "0:100,9:50"}, delta=False)
    assert after["memory"] == capacity["memory"]
    assert after["cpu_map"] == {"0": 100, "9": 50}
    assert after["cpu"] == 2
    assert used_after["cpu_map"] == {"0": 0, "9": 0}


def test_delta_adds_and_removes():
    capacity, usage = node()
    after, used_after = KIND.node_changed(capacity, usage, {"cpu": "0:-100,1:50,4:100", "memory": "-1G"}, delta=True)
    assert after["cpu_map"] == {"1": 150, "2": 100, "3": 100, "4": 100}
    assert after["memory"] == 3 * G
    assert used_after["cpu_map"] == {"1": 0, "2": 0, "3": 0, "4": 0}


def test_capacity_below_usage_is_refused():
    capacity, usage = node()
    usage, _ = used(usage, capacity, {"cpu-request": 1, "cpu-bind": True, "memory-request": "2G"})
    with pytest.raises(Refused, match="memory cannot become 1073741824 bytes, 2147483648 are in use"):
        KIND.node_changed(capacity, usage, {"memory": "1G"}, delta=False)
    with pytest.raises(Refused, match="core 0 cannot become 0 pieces, 100 are in use"):
        KIND.node_changed(capacity, usage, {"cpu": "0:-100"}, delta=True)
    with pytest.raises(InvalidInput, match="memory would be"):
        KIND.node_changed(capacity, usage, {"memory": "-9G"}, delta=True)


def test_growing_a_node_that_is_over_its_capacity_is_allowed():
    capacity, usage = node(memory=G)
    usage = {**usage, "memory": 3 * G}
    after, _ = KIND.node_changed(capacity, usage, {"memory": "1G"}, delta=True)
    assert after["memory"] == 2 * G


# What workloads get.


def test_unbound_grant_and_engine_parameters():
    capacity, usage = node()
    (allotment,) = KIND.allot(capacity, usage, KIND.parse_request({"cpu-limit": 0.5, "memory-limit": G}), 1)
    assert allotment.grant == {
        "cpu_request": 0.5,
        "cpu_limit": 0.5,
        "cpu_map": None,
        "memory_request": G,
        "memory_limit": G,
        "numa_memory": None,
        "numa_node": "",
    }
    assert allotment.engine_params == {"cpu": 0.5, "cpu_map": None, "memory": G, "numa_node": "", "remap": False}


def test_numa_plans():
    capacity, usage = node(4, memory=4 * G, **{"numa-cpu": ["0,1", "2,3"]})
    request = KIND.parse_request({"cpu-request": 1.3, "cpu-bind": True})
    grants = [a.grant for a in KIND.allot(capacity, usage, request, 2)]
    assert [(g["cpu_map"], g["numa_node"]) for g in grants] == [({"0": 30, "1": 100}, "0"), ({"2": 30, "3": 100}, "1")]


def test_numa_plans_and_one_across():
    capacity, usage = node(6, memory=6 * G, **{"numa-cpu": ["0,1,2", "3,4,5"]})
    request = KIND.parse_request({"cpu-request": 2, "cpu-bind": True, "memory-request": "2G"})
    grants = [a.grant for a in KIND.allot(capacity, usage, request, 3)]
    assert [set(g["cpu_map"]) for g in grants] == [{"1", "2"}, {"4", "5"}, {"0", "3"}]
    assert [g["numa_memory"] for g in grants] == [{"0": 2 * G}, {"1": 2 * G}, None]
    with pytest.raises(NoCapacity):
        KIND.allot(capacity, usage, request, 4)


def test_shortage_says_what_is_short():
    capacity, usage = node(memory=G)
    with pytest.raises(NoCapacity, match=r"need: 1, available: 0 \(memory: 2G wanted, 1G free\).*not enough resource"):
        KIND.allot(capacity, usage, KIND.parse_request({"memory-request": "2G"}), 1)


def test_explain():
    capacity, usage = node(2, memory=G)
    ask = KIND.parse_request
    assert KIND.explain("n", capacity, usage, ask({"cpu-request": 2, "cpu-bind": True})) is None
    refusal = KIND.explain("n", capacity, usage, ask({"memory-request": "3G"}))
    assert (refusal.dimension, refusal.wanted, refusal.free) == ("cpumem.memory", 3 * G, G)
    refusal = KIND.explain("n", capacity, usage, ask({"cpu-request": 3}))
    assert (refusal.dimension, refusal.wanted, refusal.free) == ("cpumem.cpu", 3, 2)
    usage, _ = used(usage, capacity, {"cpu-request": 0.3, "cpu-bind": True})
    refusal = KIND.explain("n", capacity, usage, ask({"cpu-request": 1.7001, "cpu-bind": True}))
    assert refusal is None
    refusal = KIND.explain("n", capacity, usage, ask({"cpu-request": 1.71, "cpu-bind": True}))
    assert (refusal.dimension, refusal.wanted, refusal.free) == ("cpumem.cpu", 1.71, 1.7)


def test_realloc_adds_deltas_and_keeps_the_binding():
    capacity, usage = node()
    usage, grants = used(usage, capacity, {"cpu-limit": 1.7, "cpu-bind": True, "memory-request": G})
    old = grants[0]
    delta = {"cpu-request": -0.5, "cpu-limit": -0.5, "memory-request": "1G", "keep-cpu-bind": True}
    result = KIND.reallot(capacity, usage, old, delta)
    new = result.allotment.grant
    assert old["cpu_map"] == {"0": 70, "2": 100}
    assert new["cpu_map"] == {"0": 20, "2": 100}
    assert new["memory_request"] == 2 * G
    assert result.usage == KIND.add(KIND.zero(capacity), [new])
    unbound = KIND.reallot(capacity, usage, old, {})
    assert unbound.allotment.grant["cpu_map"] is None
    assert unbound.usage["cpu_map"] == dict.fromkeys("0123", 0)


def test_realloc_numa_memory_is_subtracted_once():
    capacity, usage = node(4, memory=4 * G, **{"numa-cpu": ["0,1", "2,3"]})
    usage, grants = used(usage, capacity, {"cpu-request": 1, "cpu-bind": True, "memory-request": G})
    grant = grants[0]
    for _ in range(3):
        result = KIND.reallot(capacity, usage, grant, {"keep-cpu-bind": True})
        usage, grant = result.usage, result.allotment.grant
        assert usage["numa_memory"] == {"0": G, "1": 0}
        assert grant["numa_node"] == "0"


def test_realloc_refusals():
    capacity, usage = node(2, memory=G)
    usage, (grant,) = used(usage, capacity, {"cpu-request": 1, "memory-request": G})
    with pytest.raises(NoCapacity):
        KIND.reallot(capacity, usage, grant, {"memory-request": 1})
    with pytest.raises(NoCapacity):
        KIND.reallot(capacity, usage, grant, {"cpu-request": 2})
    with pytest.raises(InvalidInput, match="less than 0"):
        KIND.reallot(capacity, usage, grant, {"cpu-request": -2})


def test_realloc_downwards_works_on_a_node_that_is_too_small():
    capacity, usage = node(2, memory=G)
    usage, (grant,) = used(usage, capacity, {"cpu-request": 1, "memory-request": "512M"})
    usage = KIND.add(usage, [{**grant, "memory_request": 4 * G}])
    result = KIND.reallot(capacity, usage, grant, {"memory-request": "-256M"})
    assert result.allotment.grant["memory_request"] == 256 << 20


def test_remap_gives_whole_free_cores_to_unbound_workloads():
    capacity, usage = node(3)
    usage, (bound,) = used(usage, capacity, {"cpu-request": 1.2, "cpu-bind": True})
    usage, (loose,) = used(usage, capacity, {"cpu-limit": 0.5, "memory-limit": G})
    params = KIND.remap(capacity, usage, {"b": bound, "l": loose})
    assert params == {"l": {"cpu": 0.5, "cpu_map": {"2": 100}, "memory": G, "numa_node": "", "remap": True}}
    usage, _ = used(usage, capacity, {"cpu-request": 1, "cpu-bind": True})
    assert set(KIND.remap(capacity, usage, {"l": loose})["l"]["cpu_map"]) == {"0", "1", "2"}


def test_diffs_name_each_part_that_drifted():
    capacity, usage = node(2)
    usage, grants = used(usage, capacity, {"cpu-request": 0.3, "cpu-bind": True, "memory-request": 5}, 3)
    assert KIND.diffs(usage, grants) == []
    wrong = {**usage, "memory": 16, "cpu": 1.0, "cpu_map": {"0": 80, "1": 0}}
    told = KIND.diffs(wrong, grants)
    assert len(told) == 3
    assert "memory in use is recorded as 16, but the workloads sum up to 15" in told[2]


def test_gauges_and_idleness():
    capacity, usage = node(2)
    usage, _ = used(usage, capacity, {"cpu-request": 0.5, "cpu-bind": True, "memory-request": 5})
    told = {(g.name, g.labels.get("cpuid")): (g.value, g.key) for g in KIND.gauges("p", "n.1", capacity, usage)}
    assert told[("cpu_map", "0")] == (50.0, "core.node.n_1.cpu.0")
    assert told[("memory_used", None)] == (5.0, "core.node.n_1.memory.used")
    assert told[("memory_capacity", None)] == (4.0 * G, "core.node.n_1.memory")
    assert told[("cpu_used", None)] == (0.5, "core.node.n_1.cpu.used")
    assert KIND.idleness(capacity, usage) == 0.75


@pytest.mark.parametrize(("share", "maxshare", "part"), [(0, -1, 0.8), (100, -2, 0.8), (100, -1, 0), (100, -1, 1.1)])
def test_wrong_settings(share, maxshare, part):
    with pytest.raises(InvalidInput):
        CpumemKind(share, maxshare, part)


# Properties: what is measured is what can be given, on every kind of node.

BAGS = st.fixed_dictionaries(
    {},
    optional={
        "cpu-request": st.sampled_from([0.1, 0.29, 0.5, 1, 1.3, 2, 2.3, 7]),
        "memory-request": st.sampled_from([0, 1, 100, 333]),
        "cpu-bind": st.booleans(),
    },
)


@st.composite
def nodes(draw):
    many = draw(st.integers(1, 6))
    cpu_map = {str(c): draw(st.sampled_from([0, 50, 100, 100, 100, 150, 200, 300])) for c in range(many)}
    if not any(cpu_map.values()):
        cpu_map["0"] = 100
    numa = {}
    if draw(st.booleans()):
        numa = {core: str(draw(st.integers(0, 1))) for core in cpu_map}
    memory = draw(st.integers(0, 1000))
    numa_memory = {n: draw(st.integers(0, 700)) for n in sorted(set(numa.values()))}
    capacity = {"cpu": many, "cpu_map": cpu_map, "memory": memory, "numa": numa, "numa_memory": numa_memory}
    usage = {
        **KIND.zero(capacity),
        "cpu_map": {c: draw(st.integers(0, p)) if draw(st.booleans()) else 0 for c, p in cpu_map.items()},
        "memory": draw(st.integers(0, memory)) if draw(st.booleans()) else 0,
    }
    return capacity, usage


def asked_or_none(kind, bag):
    try:
        return kind.parse_request(bag)
    except InvalidInput:
        return None


@settings(max_examples=150, deadline=None)
@given(st.lists(nodes(), min_size=1, max_size=5), BAGS, st.sampled_from([-1, 0, 1, 3]), st.randoms())
def test_measured_capacity_is_exactly_what_can_be_allotted(records, bag, maxshare, random):
    kind = CpumemKind(maxshare=maxshare)
    request = asked_or_none(kind, bag)
    if request is None:
        return
    table = kind.table()
    rows = np.array(random.sample(range(len(records) + 2), len(records)), np.int64)
    for row, (capacity, usage) in zip(rows.tolist(), records, strict=True):
        table.set(row, capacity, usage)
    for _ in range(2):  # the second time from what was kept
        measure = table.measure(request, rows)
    for index, (capacity, usage) in enumerate(records):
        fit = int(measure.capacity[index])
        assert (kind.explain("n", capacity, usage, request) is None) == (fit > 0)
        if fit == UNLIMITED:
            assert len(kind.allot(capacity, usage, request, 50)) == 50
            continue
        grants = [allotment.grant for allotment in kind.allot(capacity, usage, request, fit)]
        assert len(grants) == fit
        with pytest.raises(NoCapacity):
            kind.allot(capacity, usage, request, fit + 1)
        check_not_over(capacity, usage, kind.add(usage, grants))


def check_not_over(capacity, before, after):
    for core, pieces in after["cpu_map"].items():
        assert pieces <= capacity["cpu_map"][core]
    assert after["memory"] <= max(capacity["memory"], before["memory"])
    for numa, size in after["numa_memory"].items():
        assert size <= capacity["numa_memory"][numa]


@settings(max_examples=100, deadline=None)
@given(nodes(), st.lists(st.tuples(BAGS, st.integers(1, 3)), max_size=8), st.randoms())
def test_a_life_of_grants_never_overcommits_and_ends_empty(record, requests, random):
    capacity, _ = record
    usage, table, grants = KIND.zero(capacity), KIND.table(), []
    row = np.zeros(1, np.int64)
    for bag, count in requests:
        request = asked_or_none(KIND, bag)
        if request is None:
            continue
        table.set(0, capacity, usage)
        fit = int(table.measure(request, row).capacity[0])
        given_ = [a.grant for a in KIND.allot(capacity, usage, request, min(fit, count))]
        usage = KIND.add(usage, given_)
        grants += given_
        check_not_over(capacity, usage, usage)
        assert KIND.diffs(usage, grants) == []
        if grants and random.random() < 0.5:
            old = grants.pop(random.randrange(len(grants)))
            try:
                result = KIND.reallot(capacity, usage, old, {"cpu-request": 0.2, "keep-cpu-bind": True})
            except EruError:
                usage = KIND.subtract(usage, [old])
            else:
                usage = result.usage
                grants.append(result.allotment.grant)
            check_not_over(capacity, usage, usage)
    usage = KIND.subtract(usage, grants)
    assert usage == KIND.zero(capacity)


@settings(max_examples=60, deadline=None)
@given(nodes(), BAGS)
def test_a_cleared_row_takes_nothing(record, bag):
    request = asked_or_none(KIND, {**bag, "memory-request": 1})
    if request is None:
        return
    table = KIND.table()
    table.set(0, *record)
    table.measure(request, np.zeros(1, np.int64))
    table.clear(0)
    assert table.measure(request, np.zeros(1, np.int64)).capacity.tolist() == [0]


def test_measure_numbers():
    capacity, usage = node(4, memory=4 * G)
    usage, _ = used(usage, capacity, {"cpu-request": 1, "cpu-bind": True, "memory-request": G})
    table, row = KIND.table(), np.zeros(1, np.int64)
    table.set(0, capacity, usage)
    unbound = table.measure(KIND.parse_request({"memory-request": G}), row)
    assert (unbound.capacity[0], unbound.usage[0], unbound.rate[0], unbound.weight) == (3, 0.25, 0.25, 1)
    bound = table.measure(KIND.parse_request({"cpu-request": 1, "cpu-bind": True}), row)
    assert (bound.capacity[0], bound.usage[0], bound.rate[0], bound.weight) == (3, 0.25, 0.25, 100)
    free = table.measure(KIND.parse_request({}), row)
    assert (free.capacity[0], free.usage[0], free.rate[0]) == (UNLIMITED, 0.25, 0)
    too_big = table.measure(KIND.parse_request({"cpu-request": 5}), row)
    assert too_big.capacity[0] == 0
