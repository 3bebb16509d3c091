"""The pieces that the in-process backends are made of, against plain models."""

from hypothesis import given
from hypothesis import strategies as st

from eru.model.errors import LeaseLost
from eru.store import rules
from eru.store.leases import LeaseTable
from eru.store.order import KeyOrder

texts = st.text(st.sampled_from("ab/\x7f\x80\ud7ff\ue000\U0010ffff"), min_size=1, max_size=4)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("toggle"), st.lists(texts, max_size=100)),
            st.tuples(st.just("walk"), texts, texts),
        ),
        max_size=20,
    )
)
def test_key_order_walks_as_a_sorted_set(steps: list[tuple[object, ...]]) -> None:
    order, model = KeyOrder(), set[str]()
    for step in steps:
        if step[0] == "toggle":
            for key in step[1]:  # type: ignore[attr-defined]
                (order.remove if key in model else order.add)(key)
                model ^= {key}
        else:
            _, prefix, after = step
            expected = [key for key in sorted(model) if key.startswith(str(prefix)) and key > str(after)]
            assert list(order.under(str(prefix), str(after))) == expected


@given(prefix=texts, key=texts)
def test_what_lies_under_a_prefix_lies_before_its_end(prefix: str, key: str) -> None:
    under = key.startswith(prefix)
    assert (prefix.encode() <= key.encode() < rules.prefix_end(prefix)) == under
    end = rules.prefix_end_text(prefix)
    assert (prefix <= key and (not end or key < end)) == under


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "renew", "remove", "wait"]), st.integers(1, 4), st.integers(1, 5)),
        max_size=40,
    )
)
def test_leases_end_when_nobody_renews_them(steps: list[tuple[str, int, int]]) -> None:
    table, model, now, used = LeaseTable(), dict[int, tuple[int, float]](), 0.0, 0
    names: dict[int, int] = {}
    for verb, name, seconds in steps:
        id = names.get(name, 0)
        if verb == "add":
            used += 1
            names[name] = used
            table.add(used, seconds, now)
            model[used] = (seconds, now + seconds)
        elif verb == "remove":
            table.remove(id)
            model.pop(id, None)
        elif verb == "wait":
            now += seconds
            ended = sorted(id for id, (_, end) in model.items() if end <= now)
            due = table.next_due()
            assert not ended or (due is not None and due <= now)
            assert sorted(table.due(now)) == ended
            for id in ended:
                table.remove(id)
                del model[id]
        elif id in model:
            assert table.renew(id, now) == model[id][0]
            model[id] = (model[id][0], now + model[id][0])
        else:
            try:
                table.renew(id, now)
                raise AssertionError("renewed a lease that has ended")
            except LeaseLost:
                pass
        assert len(table) == len(model)
