"""Strategies: the worked examples, the sentences, and slow twins that take one instance at a time."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eru.model.deploy import Strategy
from eru.model.errors import InvalidInput, NoCapacity, Refused
from eru.plan.contract import Candidates
from eru.plan.lowest import RATE_LEAST
from eru.plan.merge import CAPACITY_MOST
from eru.plan.place import plan, spread_error

MANY = 10**6


def nodes(capacity, count=None, usage=None, rate=None):
    many = len(capacity)
    return Candidates(
        row=np.arange(many),
        capacity=np.array(capacity, np.int64),
        count=np.array(count if count is not None else [0] * many, np.int64),
        usage=np.array(usage if usage is not None else [0.0] * many, np.float64),
        rate=np.array(rate if rate is not None else [0.1] * many, np.float64),
    )


A = nodes([10, 10, 10, 10], [2, 3, 5, 7])
RISING = nodes([1, 2, 3, 4, 5], [3, 3, 3, 3, 3])


def after(candidates, strategy, count, limit=0):
    return (candidates.count + plan(candidates, strategy, count, limit)).tolist()


@pytest.mark.parametrize(
    ("candidates", "need", "expected"),
    [
        (A, 1, [3, 3, 5, 7]),
        (A, 2, [3, 4, 5, 7]),
        (A, 3, [4, 4, 5, 7]),
        (A, 4, [5, 4, 5, 7]),
        (A, 29, [12, 11, 12, 11]),
        (A, 37, [12, 13, 15, 14]),
        (A, 40, [12, 13, 15, 17]),
        (nodes([1, 2, 1, 5, 10]), 3, [0, 1, 0, 1, 1]),
        (nodes([10, 4, 4], [1, 1, 10]), 5, [4, 3, 10]),
        (nodes([4, 5, 4, 10], [2, 2, 4, 0]), 3, [2, 2, 4, 3]),
    ],
)
def test_auto(candidates, need, expected):
    got = after(candidates, Strategy.AUTO, need)
    assert sorted(got) == sorted(expected)
    assert got == auto_twin(candidates, need, 0)
    if need not in (4, 29, 37):
        assert got == expected


def test_auto_with_limit():
    candidates = nodes([3, 4, 5, 10], [3, 5, 7, 10])
    assert after(candidates, Strategy.AUTO, 3, 6) == [5, 6, 7, 10]
    with pytest.raises(
        NoCapacity, match=r"^reached nodelimit, a node can host at most 5 instances: cannot alloc a plan"
    ):
        plan(candidates, Strategy.AUTO, 3, 5)


@pytest.mark.parametrize("strategy", [Strategy.AUTO, Strategy.GLOBAL, Strategy.DRAINED])
def test_too_many(strategy):
    with pytest.raises(NoCapacity) as error:
        plan(A, strategy, 41)
    assert str(error.value) == "need: 41, available: 40: cannot alloc a plan, not enough resource"
    with pytest.raises(NoCapacity, match="need: 1, available: 0"):
        plan(nodes([]), strategy, 1)


def test_each():
    assert after(A, Strategy.EACH, 1) == [3, 4, 6, 8]
    assert plan(nodes([1, 2, 3, 4, 5]), Strategy.EACH, 3, 2).tolist() == [0, 0, 0, 3, 3]
    with pytest.raises(NoCapacity, match=r"^not enough nodes with capacity of 4, require 4 nodes: cannot alloc a plan"):
        plan(nodes([1, 2, 3, 4, 5]), Strategy.EACH, 4, 4)
    with pytest.raises(NoCapacity, match=r"^not enough nodes with capacity of 2, require 5 nodes: "):
        plan(nodes([1, 2, 3, 4, 5]), Strategy.EACH, 2)
    with pytest.raises(NoCapacity, match=r"^node len 4 < limit, cannot alloc an average node plan: "):
        plan(A, Strategy.EACH, 1, 5)
    with pytest.raises(NoCapacity) as error:
        plan(A, Strategy.EACH, 11)
    assert str(error.value) == ("insufficient nodes, at least 1 needed: cannot alloc a plan, not enough nodes capacity")


def test_fill():
    assert after(A, Strategy.FILL, 10) == [10, 10, 10, 10]
    assert after(A, Strategy.FILL, 5) == [5, 5, 5, 7]
    assert plan(RISING, Strategy.FILL, 4, 3).tolist() == [0, 0, 1, 1, 1]
    with pytest.raises(NoCapacity, match=r"^not enough nodes that can fill up to 15 instances, require 2 nodes: "):
        plan(A, Strategy.FILL, 15)
    with pytest.raises(NoCapacity, match=r"^not enough nodes that can fill up to 5 instances, require 1 nodes: "):
        plan(RISING, Strategy.FILL, 5)
    with pytest.raises(NoCapacity, match=r"^node len 4 cannot alloc a fill node plan: "):
        plan(A, Strategy.FILL, 1, 5)
    with pytest.raises(Refused) as error:
        plan(A, Strategy.FILL, 1)
    assert str(error.value) == "cannot alloc a fill node plan, each node has enough workloads"
    assert not isinstance(error.value, NoCapacity)


def test_fill_sees_full_nodes_that_have_enough():
    candidates = nodes([0, 0, 5], [4, 1, 0])
    assert plan(candidates, Strategy.FILL, 4, 2).tolist() == [0, 0, 4]
    with pytest.raises(NoCapacity, match="node len 2"):
        plan(candidates, Strategy.FILL, 4, 3)


def test_fill_of_unlimited_nodes_that_already_have_some():
    for unlimited in (CAPACITY_MOST, np.iinfo(np.int64).max):
        assert plan(nodes([unlimited, unlimited], [1, 0]), Strategy.FILL, 3).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("candidates", "need", "expected"),
    [
        (nodes([1, 2, 1], usage=[0.8, 0.5, 2.2], rate=[0.05, 0.12, 0.05]), 3, [1, 2, 0]),
        (nodes([4, 1, 1], usage=[0.8, 0.5, 2.2], rate=[0.05, 0.35, 0.05]), 3, [2, 1, 0]),
        (nodes([10, 10, 10], usage=[0.8, 0.5, 2.2], rate=[0, 0, 0]), 10, [0, 10, 0]),
        (nodes([2, 10], usage=[0.0, 0.9], rate=[0.5, 0.01]), 3, [1, 2]),
    ],
)
def test_global(candidates, need, expected):
    assert plan(candidates, Strategy.GLOBAL, need).tolist() == expected


@pytest.mark.parametrize(
    ("need", "expected"),
    [
        (1, [0, 0, 0, 1]),
        (10, [0, 2, 0, 8]),
        (25, [8, 9, 0, 8]),
        (29, [10, 9, 2, 8]),
        (37, [10, 9, 10, 8]),
    ],
)
def test_drained(need, expected):
    candidates = nodes([10, 9, 10, 8], [2, 3, 5, 7])
    assert plan(candidates, Strategy.DRAINED, need).tolist() == expected


def test_drained_prefers_the_fuller_of_equals():
    assert plan(nodes([2, 2, 2], usage=[0.1, 0.9, 0.5]), Strategy.DRAINED, 3).tolist() == [0, 2, 1]


def test_wrong_requests():
    for count in (0, -1, 10**12):
        with pytest.raises(InvalidInput, match="invalid deploy count"):
            plan(A, Strategy.AUTO, count)
    with pytest.raises(InvalidInput, match="deploy method not support yet"):
        plan(A, Strategy.DUMMY, 1)
    with pytest.raises(InvalidInput, match="nodes_limit"):
        plan(A, Strategy.AUTO, 1, -1)


@pytest.mark.parametrize("strategy", [Strategy.AUTO, Strategy.GLOBAL, Strategy.DRAINED, Strategy.EACH])
def test_unlimited_nodes_do_not_overflow(strategy):
    unlimited = np.iinfo(np.int64).max
    got = plan(nodes([unlimited] * 5, [1] * 5), strategy, 1_000_000)
    assert got.min() >= 0
    assert got.sum() == (5_000_000 if strategy is Strategy.EACH else 1_000_000)


# Twins: a heap, one instance at a time, in plain Python.


def auto_twin(candidates, need, limit):
    count, capacity = candidates.count.tolist(), candidates.capacity.tolist()
    if sum(capacity) < need:
        return None
    heap = [(n, -c, i) for i, (n, c) in enumerate(zip(count, capacity, strict=True)) if c and (not limit or n < limit)]
    heapq.heapify(heap)
    for _ in range(need):
        if not heap:
            return None
        n, c, i = heapq.heappop(heap)
        count[i] += 1
        if c + 1 and (not limit or n + 1 < limit):
            heapq.heappush(heap, (n + 1, c + 1, i))
    return count


def global_twin(candidates, need):
    usage, rate = candidates.usage.tolist(), candidates.rate.tolist()
    rate = [r if r >= RATE_LEAST else 0.0 for r in rate]
    capacity, got = candidates.capacity.tolist(), [0] * len(usage)
    if sum(capacity) < need:
        return None
    heap = [(usage[i] + rate[i], i) for i in range(len(usage)) if capacity[i]]
    heapq.heapify(heap)
    for _ in range(need):
        _, i = heapq.heappop(heap)
        got[i] += 1
        if got[i] < capacity[i]:
            heapq.heappush(heap, (usage[i] + (got[i] + 1) * rate[i], i))
    return got


def drained_twin(candidates, need):
    capacity, usage = candidates.capacity.tolist(), candidates.usage.tolist()
    if sum(capacity) < need:
        return None
    got = [0] * len(capacity)
    for i in sorted(range(len(capacity)), key=lambda i: (capacity[i], -usage[i], i)):
        got[i] = min(capacity[i], need)
        need -= got[i]
    return got


def fill_twin(candidates, target, limit):
    capacity, count = candidates.capacity.tolist(), candidates.count.tolist()
    known = [i for i in range(len(count)) if capacity[i] or count[i] >= target]
    wanted = limit or len(known)
    got, accepted = [0] * len(count), 0
    for i in sorted(known, key=lambda i: (-count[i], -capacity[i], i)):
        if accepted < wanted and count[i] + capacity[i] >= target:
            accepted += 1
            got[i] = max(target - count[i], 0)
    return got if accepted == wanted and any(got) else None


def each_twin(candidates, each, limit):
    capacity = candidates.capacity.tolist()
    known = [i for i in sorted(range(len(capacity)), key=lambda i: (-capacity[i], i)) if capacity[i]]
    wanted = limit or len(known)
    chosen = known[:wanted]
    if len(chosen) < wanted or not chosen or any(capacity[i] < each for i in chosen):
        return None
    return [each if i in chosen else 0 for i in range(len(capacity))]


def ours(candidates, strategy, need, limit=0):
    try:
        return plan(candidates, strategy, need, limit).tolist()
    except Refused:
        return None


@st.composite
def clusters(draw):
    many = draw(st.integers(1, 12))
    small = draw(st.booleans())
    rates = st.sampled_from([0.0, 0.25, 0.1, 1e-13]) if small else st.floats(0, 2)
    usages = st.sampled_from([0.0, 0.5, 0.3]) if small else st.floats(0, 5)
    capacity = st.integers(0, 3) | st.integers(0, 40) | st.just(MANY)
    return nodes(
        draw(st.lists(capacity, min_size=many, max_size=many)),
        draw(st.lists(st.integers(0, 12), min_size=many, max_size=many)),
        draw(st.lists(usages, min_size=many, max_size=many)),
        draw(st.lists(rates, min_size=many, max_size=many)),
    )


NEED = st.integers(1, 8) | st.integers(1, 300)
LIMIT = st.integers(0, 14)


@settings(max_examples=300, deadline=None)
@given(clusters(), NEED, LIMIT)
def test_auto_is_the_heap(candidates, need, limit):
    got = ours(candidates, Strategy.AUTO, need, limit)
    expected = auto_twin(candidates, need, limit)
    assert got == (None if expected is None else (np.array(expected) - candidates.count).tolist())
    if got and not limit:
        assert spread_error(candidates, np.array(got)) == 0


@settings(max_examples=300, deadline=None)
@given(clusters(), NEED)
def test_global_is_the_heap(candidates, need):
    assert ours(candidates, Strategy.GLOBAL, need) == global_twin(candidates, need)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([40, 3000, 20000]), st.booleans())
def test_global_is_the_heap_on_larger_clusters(seed, need, alike):
    random = np.random.default_rng(seed)
    many = 300
    candidates = nodes(
        random.integers(0, 500, many),
        usage=np.full(many, 0.25) if alike else random.random(many),
        rate=np.full(many, 0.125) if alike else random.random(many) / 50,
    )
    assert ours(candidates, Strategy.GLOBAL, need) == global_twin(candidates, need)


@given(clusters(), NEED)
def test_drained_is_one_by_one(candidates, need):
    assert ours(candidates, Strategy.DRAINED, need) == drained_twin(candidates, need)


@given(clusters(), st.integers(1, 30), LIMIT)
def test_fill_is_one_by_one(candidates, target, limit):
    assert ours(candidates, Strategy.FILL, target, limit) == fill_twin(candidates, target, limit)


@given(clusters(), st.integers(1, 20), LIMIT)
def test_each_is_one_by_one(candidates, each, limit):
    assert ours(candidates, Strategy.EACH, each, limit) == each_twin(candidates, each, limit)


def test_spread_error_sees_an_uneven_plan():
    assert spread_error(nodes([9, 9]), np.array([4, 0])) == 3
    assert spread_error(nodes([9, 9]), np.array([2, 1])) == 0
