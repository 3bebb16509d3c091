"""Reading and writing: revisions, compares, limits, conflicts."""

from __future__ import annotations

import asyncio

from eru.store.conformance.trial import Trial, check, raises
from eru.store.contract import (
    TXN_OPS_MAX,
    VALUE_BYTES_MAX,
    Compare,
    Delete,
    Op,
    Put,
    Target,
    TxnResult,
    absent,
    present,
    range_all,
    unchanged,
)


@check
async def a_key_has_its_history_in_numbers(trial: Trial) -> None:
    store, key = trial.store, trial.key("k")
    assert await store.get(key) is None
    first = await trial.put("k", b"one")
    second = await trial.put("k", b"two")
    item = await store.get(key)
    assert item is not None
    assert (item.key, item.value, item.lease) == (key, b"two", 0)
    assert (item.create_revision, item.mod_revision, item.version) == (first, second, 2)
    await store.txn([], [Delete(key)])
    assert await store.get(key) is None
    again = await trial.put("k", b"three")
    item = await store.get(key)
    assert item is not None
    assert (item.create_revision, item.mod_revision, item.version) == (again, again, 1)


@check
async def empty_values_and_any_text_as_key(trial: Trial) -> None:
    names = ["empty", "ünïcode/日本語/🐳", "with space", "a\tb", "%00", "\U0010fffe"]
    await trial.store.txn([], [Put(trial.key(name), b"") for name in names])
    items, _ = await range_all(trial.store, f"{trial.room}/")
    assert [item.key for item in items] == sorted((trial.key(name) for name in names), key=str.encode)
    assert all(item.value == b"" for item in items)
    found = await trial.store.get_many([trial.key(name) for name in names])
    assert set(found) == {trial.key(name) for name in names}


@check
async def values_are_any_bytes_up_to_the_limit(trial: Trial) -> None:
    everything = bytes(range(256))
    large = b"\xff" * VALUE_BYTES_MAX
    await trial.put("bytes", everything)
    await trial.put("large", large)
    found = await trial.store.get_many([trial.key("bytes"), trial.key("large")])
    assert found[trial.key("bytes")].value == everything
    assert found[trial.key("large")].value == large


@check
async def one_transaction_is_one_revision(trial: Trial) -> None:
    store = trial.store
    before = await trial.put("old", b"")
    result = await store.txn([], [Put(trial.key("a"), b"1"), Put(trial.key("b"), b"2"), Delete(trial.key("old"))])
    assert result == TxnResult(True, result.revision)
    assert result.revision > before
    found = await store.get_many([trial.key("a"), trial.key("b"), trial.key("old")])
    assert {item.mod_revision for item in found.values()} == {result.revision}
    assert set(found) == {trial.key("a"), trial.key("b")}


@check
async def what_changes_nothing_leaves_the_keys_alone(trial: Trial) -> None:
    revision = await trial.put("k", b"1")
    refused = await trial.store.txn([absent(trial.key("k"))], [Put(trial.key("k"), b"2"), Put(trial.key("n"), b"")])
    assert not refused.succeeded
    assert refused.revision >= revision
    nothing = await trial.store.txn([present(trial.key("k"))], [Delete(trial.key("not there"))])
    assert nothing.succeeded
    asked = await trial.store.txn([present(trial.key("k"))], [])
    assert asked.succeeded
    items, _ = await range_all(trial.store, f"{trial.room}/")
    assert [(item.key, item.value, item.version) for item in items] == [(trial.key("k"), b"1", 1)]


@check
async def compares_judge_every_target_with_every_operator(trial: Trial) -> None:
    store, key = trial.store, trial.key("k")
    lease = await store.grant(60)
    created = await trial.put("k", b"a")
    changed = await trial.put("k", b"m", lease)
    actual: dict[Target, int] = {
        Target.VERSION: 2,
        Target.CREATE: created,
        Target.MOD: changed,
        Target.LEASE: lease,
    }
    cases: list[tuple[Compare, bool]] = []
    for target, number in actual.items():
        for operand in (number - 1, number, number + 1):
            cases += [
                (Compare(key, target, Op.EQUAL, operand), number == operand),
                (Compare(key, target, Op.NOT_EQUAL, operand), number != operand),
                (Compare(key, target, Op.GREATER, operand), number > operand),
                (Compare(key, target, Op.LESS, operand), number < operand),
            ]
    for value in (b"", b"a", b"m", b"ma", b"\xff"):
        cases += [
            (Compare(key, Target.VALUE, Op.EQUAL, value), value == b"m"),
            (Compare(key, Target.VALUE, Op.NOT_EQUAL, value), value != b"m"),
            (Compare(key, Target.VALUE, Op.GREATER, value), value < b"m"),
            (Compare(key, Target.VALUE, Op.LESS, value), value > b"m"),
        ]
    for compare, expected in cases:
        assert (await store.txn([compare], [])).succeeded == expected, compare
    await store.revoke(lease)


@check
async def compares_of_a_missing_key(trial: Trial) -> None:
    store, key = trial.store, trial.key("missing")
    for target in (Target.VERSION, Target.CREATE, Target.MOD, Target.LEASE):
        for op, expected in ((Op.EQUAL, True), (Op.NOT_EQUAL, False), (Op.GREATER, False), (Op.LESS, False)):
            assert (await store.txn([Compare(key, target, op, 0)], [])).succeeded == expected, (target, op)
    for op in Op:
        assert not (await store.txn([Compare(key, Target.VALUE, op, b"")], [])).succeeded, op
    assert (await store.txn([absent(key), unchanged(key, 0)], [])).succeeded
    assert not (await store.txn([present(key)], [])).succeeded


@check
async def limits_are_kept_and_wrong_calls_refused(trial: Trial) -> None:
    store = trial.store
    keys = [trial.key(f"{number:03}") for number in range(TXN_OPS_MAX + 1)]
    full = await store.txn([absent(key) for key in keys[:-1]], [Put(key, b"x") for key in keys[:-1]])
    assert full.succeeded
    await raises(ValueError, store.txn([present(key) for key in keys], []))
    await raises(ValueError, store.txn([], [Delete(key) for key in keys]))
    await raises(ValueError, store.txn([], [Put(keys[0], b"1"), Put(keys[0], b"2")]))
    await raises(ValueError, store.txn([], [Put(keys[0], b"1"), Delete(keys[0])]))
    await raises(ValueError, store.txn([], [Put(keys[0], b"x" * (VALUE_BYTES_MAX + 1))]))
    await raises(ValueError, store.txn([], [Put(key, b"x" * 500_000) for key in keys[:3]]))
    await raises(ValueError, store.txn([], [Put("", b"")]))
    await raises(ValueError, store.txn([], [Put(trial.key("room/"), b"")]))
    await raises(ValueError, store.txn([Compare(keys[0], Target.VALUE, Op.EQUAL, 1)], []))
    await raises(ValueError, store.txn([Compare(keys[0], Target.MOD, Op.EQUAL, b"")], []))
    await raises(ValueError, store.get(""))
    await raises(ValueError, store.range(""))
    await raises(ValueError, store.range(f"{trial.room}/", limit=0))
    await raises(ValueError, store.watch(f"{trial.room}/", 0))
    await raises(ValueError, store.grant(0))
    items, _ = await range_all(store, f"{trial.room}/")
    assert {item.value for item in items} == {b"x"}


@check
async def of_fifty_that_want_the_same_key_one_gets_it(trial: Trial) -> None:
    key = trial.key("one")

    async def attempt(number: int) -> bool:
        return (await trial.store.txn([absent(key)], [Put(key, b"%d" % number)])).succeeded

    won = await asyncio.gather(*(attempt(number) for number in range(50)))
    assert won.count(True) == 1
    item = await trial.store.get(key)
    assert item is not None
    assert item.value == b"%d" % won.index(True)


@check
async def no_increment_gets_lost(trial: Trial) -> None:
    await trial.put("count", b"0")

    async def increment() -> None:
        while True:
            item = await trial.store.get(trial.key("count"))
            assert item is not None
            write = Put(item.key, b"%d" % (int(item.value) + 1))
            if (await trial.store.txn([unchanged(item.key, item.mod_revision)], [write])).succeeded:
                return

    await asyncio.gather(*(increment() for _ in range(20)))
    item = await trial.store.get(trial.key("count"))
    assert item is not None
    assert (item.value, item.version) == (b"20", 21)
