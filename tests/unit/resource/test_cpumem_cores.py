"""Core plans: worked examples, and the closed forms against a slow search."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eru.resource.cpumem import cores
from eru.resource.cpumem.cores import count, fragmentation, plan, plan_near, shape_of, take
from eru.resource.cpumem.request import pieces_of

ALL = 1_000_000


def planned(free, request, maxshare=-1, most=ALL):
    free = {str(core): pieces for core, pieces in free.items()}
    shape = shape_of(pieces_of(request, 100), 100)
    plans = plan(free, shape, maxshare, most)
    if most == ALL:
        assert len(plans) == count(free, shape, maxshare)
    return [{int(core): pieces for core, pieces in cores_.items()} for cores_ in plans]


FOUR = dict.fromkeys(range(4), 100)


@pytest.mark.parametrize(
    ("free", "request_", "maxshare", "expected"),
    [
        (FOUR, 1, -1, [{0: 100}, {1: 100}, {2: 100}, {3: 100}]),
        (FOUR, 2, -1, [{0: 100, 1: 100}, {2: 100, 3: 100}]),
        (FOUR, 1.3, -1, [{0: 30, 1: 100}, {0: 30, 2: 100}, {0: 30, 3: 100}]),
        ({0: 100, 1: 100}, 0.5, -1, [{0: 50}, {0: 50}, {1: 50}, {1: 50}]),
        ({0: 100, 1: 100}, 0.5, 1, [{0: 50}, {0: 50}]),
        ({0: 100, 1: 100}, 0.5, 0, []),
        (
            {0: 400, 1: 200, 2: 400},
            2,
            -1,
            [{0: 100, 1: 100}, {1: 100, 2: 100}, {0: 100, 2: 100}, {0: 100, 2: 100}, {0: 100, 2: 100}],
        ),
        (
            {0: 70, 1: 100, 2: 400},
            1.3,
            -1,
            [{0: 30, 2: 100}, {0: 30, 2: 100}, {1: 30, 2: 100}, {1: 30, 2: 100}],
        ),
        ({0: 70, 1: 50, 2: 90}, 0.5, -1, [{1: 50}, {0: 50}, {2: 50}]),
    ],
)
def test_worked_examples(free, request_, maxshare, expected):
    assert planned(free, request_, maxshare) == expected


def test_oversold_fragment_core_keeps_serving_fragments():
    free = {"0": 230, "1": 200}
    for _ in range(2):
        (first,) = plan(free, shape_of(170, 100), -1, 1)
        assert first == {"0": 70, "1": 100}
        free = take(free, [first])


def test_maxshare_limits_broken_cores():
    assert len(planned(dict.fromkeys(range(6), 100), 1.7, maxshare=2)) == 2


def test_maxshare_below_the_cores_already_broken_uses_them_and_breaks_no_more():
    assert planned({0: 60, 1: 60, 2: 100}, 0.5, maxshare=1) == [{0: 50}, {1: 50}]


@pytest.mark.parametrize(
    ("request_", "pieces"), [(0.29, 29), (2.3, 230), (0.01, 1), (0.285, 29), (1.1, 110), (1, 100), (4.35, 435)]
)
def test_cores_become_pieces_by_rounding(request_, pieces):
    assert pieces_of(request_, 100) == pieces


@pytest.mark.parametrize(
    ("free", "old", "request_", "expected"),
    [
        ({"0": 100, "1": 60, "2": 40}, {"0": 100, "1": 30, "2": 40}, 1, {"0": 100}),
        ({"0": 100, "1": 60, "2": 40}, {"0": 100, "1": 30, "2": 40}, 1.2, {"0": 100, "1": 20}),
        ({"0": 100, "1": 100, "2": 40, "3": 10}, {"0": 100, "1": 20, "2": 40, "3": 10}, 2, {"0": 100, "1": 100}),
        ({"0": 100, "1": 99, "2": 50}, {"0": 100, "1": 30, "2": 40}, 2, None),
        ({"0": 100, "1": 100, "2": 50}, {"0": 100, "1": 30, "2": 40}, 2, {"0": 100, "1": 100}),
        # Staying costs breaking up an own core, moving would not: it stays.
        ({"0": 50, "1": 100, "2": 100, "3": 100}, {"2": 100, "3": 100}, 1.5, {"3": 100, "2": 50}),
    ],
)
def test_realloc_stays_on_its_cores(free, old, request_, expected):
    assert plan_near(free, shape_of(pieces_of(request_, 100), 100), -1, old) == expected


def test_ties_go_to_the_lower_core_number_not_its_text():
    free = {str(core): 100 for core in range(12)}
    assert [next(iter(p)) for p in plan(free, shape_of(100, 100), -1, ALL)] == [str(core) for core in range(12)]


def test_fragmentation_is_the_share_of_free_pieces_on_broken_cores():
    assert fragmentation({"0": 100, "1": 50, "2": 0}, 100) == pytest.approx(1 / 3)
    assert fragmentation({"0": 0}, 100) == 0


FREE = st.lists(st.sampled_from([0, 10, 30, 50, 70, 100, 100, 100]), min_size=1, max_size=6)
ODD_FREE = st.lists(st.integers(0, 450), min_size=1, max_size=5)


def as_map(free):
    return {str(core): pieces for core, pieces in enumerate(free)}


def most_by_search(free, full, frag):
    """The most instances that fit by trying everything; exponential, for a few cores."""
    best = 0
    cores_ = range(len(free))
    for whole in combinations([c for c in cores_ if free[c] == 100], full):
        for part in cores_ if frag else [None]:
            if part is not None and (part in whole or free[part] < frag):
                continue
            left = list(free)
            for core in whole:
                left[core] = 0
            if part is not None:
                left[part] -= frag
            best = max(best, 1 + most_by_search(left, full, frag))
    return best


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 30, 70, 100, 100]), min_size=1, max_size=4), st.integers(50, 230))
def test_count_is_the_most_that_fits(free, pieces):
    shape = shape_of(pieces, 100)
    assert count(as_map(free), shape, -1) == most_by_search(free, shape.full, shape.frag)


@given(ODD_FREE, st.integers(1, 350), st.integers(-1, 4))
def test_plans_are_valid_and_as_many_as_counted(free, pieces, maxshare):
    free, shape = as_map(free), shape_of(pieces, 100)
    plans = plan(free, shape, maxshare, ALL)
    assert len(plans) == count(free, shape, maxshare)
    for one in plans:
        assert sum(one.values()) == pieces
        assert sum(p >= 100 for p in one.values()) >= shape.full
        assert len(one) == shape.full + bool(shape.frag)
    assert all(left >= 0 for left in take(free, plans).values())
    assert plan(free, shape, maxshare, 2) == plans[:2]


@given(FREE, st.integers(1, 320))
def test_one_after_another_fits_as_many_as_at_once(free, pieces):
    free, shape = as_map(free), shape_of(pieces, 100)
    promised = count(free, shape, -1)
    for left in range(promised, 0, -1):
        assert count(free, shape, -1) == left
        free = take(free, plan(free, shape, -1, 1))
    assert count(free, shape, -1) == 0


@given(ODD_FREE, st.integers(1, 350), st.integers(1, 350))
def test_realloc_finds_a_place_whenever_there_is_one(free, pieces, before):
    free = as_map(free)
    old = plan(free, shape_of(before, 100), -1, 1)
    shape = shape_of(pieces, 100)
    near = plan_near(free, shape, -1, old[0] if old else {})
    assert (near is None) == (count(free, shape, -1) == 0)
    if near:
        assert sum(near.values()) == pieces
        assert len(near) == shape.full + bool(shape.frag)
        assert all(left >= 0 for left in take(free, [near]).values())


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(2, 4))
def test_oversold_sets_by_heap_are_as_many_as_the_closed_form(slots, full):
    free = {str(core): 100 * many for core, many in enumerate(slots)}
    shape = cores.Shape(full, 0, 100)
    assert len(plan(free, shape, -1, ALL)) == count(free, shape, -1)
