"""Merging kinds, and telling why nodes were not chosen."""

from itertools import permutations

import numpy as np
import pytest

from eru.model.deploy import Strategy
from eru.model.refusals import Reason, Refusal
from eru.plan.contract import Candidates
from eru.plan.explain import by_strategy, summary
from eru.plan.merge import CAPACITY_MOST, merge, merged_capacity, total_capacity
from eru.plan.select import first
from eru.resource.contract import UNLIMITED, Measure

ROWS = np.arange(3)
COUNTS = np.array([1, 0, 2])


def measure(capacity, usage, rate, weight):
    return Measure(np.array(capacity, np.int64), np.array(usage, float), np.array(rate, float), weight)


def test_capacity_is_the_least_and_usage_is_weighted_whatever_the_order():
    kinds = [
        measure([UNLIMITED, 5, 2], [0.1, 0.2, 0.3], [0.0, 0.1, 0.1], 1.0),
        measure([7, UNLIMITED, 3], [0.5, 0.5, 0.5], [0.3, 0.3, 0.3], 100.0),
        measure([UNLIMITED, UNLIMITED, 0], [1 / 3, 0.7, 0.9], [0.7, 0.1, 0.01], 1.0),
    ]
    merged = [merge(ROWS, order, COUNTS) for order in permutations(kinds)]
    assert merged[0].capacity.tolist() == [7, 5, 0]
    assert merged[0].usage[0] == pytest.approx((0.1 + 50 + 1 / 3) / 102)
    assert merged[0].rate[0] == pytest.approx((30 + 0.7) / 102)
    for other in merged[1:]:
        assert np.allclose(other.usage, merged[0].usage, rtol=1e-15, atol=0)
        assert other.capacity.tolist() == merged[0].capacity.tolist()


def test_unlimited_is_clipped_for_planning_and_kept_for_telling():
    kinds = [measure([UNLIMITED, 5, UNLIMITED], [0, 0, 0], [0, 0, 0], 1.0)]
    assert merge(ROWS, kinds, COUNTS).capacity.tolist() == [CAPACITY_MOST, 5, CAPACITY_MOST]
    assert merged_capacity(3, kinds).tolist() == [UNLIMITED, 5, UNLIMITED]
    assert merge(ROWS, [], COUNTS).capacity.tolist() == [CAPACITY_MOST] * 3


@pytest.mark.parametrize(
    ("capacity", "total"),
    [([], 0), ([1, 2], 3), ([UNLIMITED, 5], UNLIMITED), ([UNLIMITED] * 3, UNLIMITED), ([UNLIMITED - 1, 1], UNLIMITED)],
)
def test_total_never_wraps(capacity, total):
    assert total_capacity(np.array(capacity, np.int64)) == total


def test_first_takes_the_smallest_by_keys_and_position():
    a = np.array([2, 1, 1, 1, 0])
    b = np.array([0, 5, 3, 3, 9])
    assert first(0, a).tolist() == []
    assert first(3, a, b).tolist() == [2, 3, 4]
    assert first(2, a, b).tolist() == [2, 4]
    assert first(9, a, b).tolist() == [0, 1, 2, 3, 4]


def test_first_equals_a_full_sort():
    random = np.random.default_rng(7)
    for many in range(1, 40):
        a, b = random.integers(0, 4, 40), random.integers(0, 4, 40).astype(float)
        expected = sorted(range(40), key=lambda i: (a[i], b[i], i))[:many]
        assert first(many, a, b).tolist() == sorted(expected)


MIB = 1 << 20


def short(nodename, free):
    return Refusal(
        nodename=nodename, reason=Reason.RESOURCE, dimension="cpumem.memory", wanted=160 * MIB, free=free * MIB
    )


def test_summary():
    refusals = [short("node-0001", 10), short("node-0222", 40), short("node-0003", 0)]
    refusals += [Refusal(nodename="node-0009", reason=Reason.DOWN)]
    assert summary(refusals) == (
        "memory: 3 nodes short by at least 120M (nearest node-0222: 40M); down, heartbeat missing: 1 node"
    )
    assert summary([]) == ""
    assert summary([short(f"n{i}", 1) for i in range(9214)]).startswith("memory: 9,214 nodes short by at least 159M")


def test_summary_of_pieces_that_do_not_fit_together():
    refusal = Refusal(
        nodename="n1", reason=Reason.RESOURCE, dimension="cpumem.cpu", wanted=2, free=2.5, detail="0 whole cores free"
    )
    assert summary([refusal]) == "cpu: 1 node without 2 in one piece (nearest n1: 2.5, 0 whole cores free)"


def test_refusals_by_strategy():
    names = ["a", "b", "c"]
    nodes = Candidates(ROWS, np.array([4, 1, 0]), np.array([5, 0, 9]), np.zeros(3), np.zeros(3))
    (refusal,) = by_strategy(names, nodes, Strategy.AUTO, 3, 5)
    assert (refusal.nodename, refusal.reason) == ("a", Reason.LIMIT)
    (refusal,) = by_strategy(names, nodes, Strategy.EACH, 3)
    assert (refusal.nodename, refusal.detail) == ("b", "has room for 1 of 3")
    (refusal,) = by_strategy(names, nodes, Strategy.FILL, 6)
    assert refusal.detail == "misses 6 instances and has room for 1"
    assert by_strategy(names, nodes, Strategy.GLOBAL, 3) == []
    assert by_strategy(names, nodes, Strategy.AUTO, 3) == []


def test_summary_gives_an_example_where_details_differ():
    limit = [
        Refusal(nodename=name, reason=Reason.LIMIT, detail=f"has room for {n} of 9") for name, n in (("a", 1), ("b", 2))
    ]
    assert summary(limit) == "with room, but not for this: 2 nodes (for example a: has room for 1 of 9)"
    assert summary(limit[:1]) == "with room, but not for this: 1 node (has room for 1 of 9)"
