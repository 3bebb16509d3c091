"""What every backend checks and decides in the same way: limits, compares, key ranges."""

from __future__ import annotations

from collections.abc import Sequence

from eru.store.contract import TXN_BYTES_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX, Compare, KeyValue, Op, Put, Target, Write

KEY_BYTES_MAX = 4_096  # a key is a short path
TTL_MAX_S = 9_000_000_000  # etcd's longest lease


def check_key(key: str) -> None:
    """A key is a non-empty text that does not end with '/': that form is for prefixes.

    Raises ValueError.
    """
    if not key or key.endswith("/"):
        raise ValueError(f"store key {key!r} must not be empty or end with '/'")
    if len(key.encode()) > KEY_BYTES_MAX:
        raise ValueError(f"store key {key[:64]!r}... has more than {KEY_BYTES_MAX} bytes")


def check_txn(compares: Sequence[Compare], writes: Sequence[Write]) -> None:
    """Refuse what no backend accepts. Raises ValueError."""
    if len(compares) > TXN_OPS_MAX or len(writes) > TXN_OPS_MAX:
        raise ValueError(
            f"a transaction takes at most {TXN_OPS_MAX} compares and {TXN_OPS_MAX} writes,"
            f" not {len(compares)} and {len(writes)}"
        )
    size = 0
    for compare in compares:
        check_compare(compare)
        size += len(compare.key) + (len(compare.operand) if isinstance(compare.operand, bytes) else 8)
    seen: set[str] = set()
    for write in writes:
        check_key(write.key)
        if write.key in seen:
            raise ValueError(f"a transaction writes key {write.key!r} more than once")
        seen.add(write.key)
        size += len(write.key)
        if isinstance(write, Put):
            size += len(write.value)
            if len(write.value) > VALUE_BYTES_MAX:
                raise ValueError(f"value of {write.key!r} has {len(write.value)} bytes, more than {VALUE_BYTES_MAX}")
    if size > TXN_BYTES_MAX:
        raise ValueError(f"a transaction has {size} bytes of keys and values, more than {TXN_BYTES_MAX}")


def check_compare(compare: Compare) -> None:
    """The operand fits the target: bytes for VALUE, a number for the rest. Raises ValueError."""
    check_key(compare.key)
    wanted = bytes if compare.target is Target.VALUE else int
    if not isinstance(compare.operand, wanted):
        raise ValueError(
            f"compare of the {compare.target.value} of {compare.key!r} needs {wanted.__name__}, not {compare.operand!r}"
        )


def check_range(prefix: str, limit: int) -> None:
    """Raises ValueError for an empty prefix or a page without room."""
    if not prefix:
        raise ValueError("a store prefix must not be empty")
    if limit < 1:
        raise ValueError(f"a page holds at least 1 key, not {limit}")


def check_watch(prefix: str, from_revision: int) -> None:
    """Raises ValueError for an empty prefix or a revision below 1."""
    if not prefix:
        raise ValueError("a store prefix must not be empty")
    if from_revision < 1:
        raise ValueError(f"a watch starts at revision 1 or later, not {from_revision}")


def check_ttl(ttl_s: int) -> None:
    """Raises ValueError for a time to live that is not between 1 s and TTL_MAX_S."""
    if not 1 <= ttl_s <= TTL_MAX_S:
        raise ValueError(f"a lease lives 1 to {TTL_MAX_S} seconds, not {ttl_s}")


def holds(compare: Compare, item: KeyValue | None) -> bool:
    """Does the condition hold for the key as it is now?"""
    if item is None and compare.target is Target.VALUE:
        return False
    actual = _actual(compare.target, item)
    operand = compare.operand
    if compare.op is Op.EQUAL:
        return actual == operand
    if compare.op is Op.NOT_EQUAL:
        return actual != operand
    if isinstance(actual, bytes) and isinstance(operand, bytes):
        return actual > operand if compare.op is Op.GREATER else actual < operand
    if isinstance(actual, int) and isinstance(operand, int):
        return actual > operand if compare.op is Op.GREATER else actual < operand
    raise ValueError(f"compare of {compare.key!r}: {operand!r} does not fit {compare.target.value}")


def _actual(target: Target, item: KeyValue | None) -> int | bytes:
    if item is None:
        return 0
    if target is Target.MOD:
        return item.mod_revision
    if target is Target.CREATE:
        return item.create_revision
    if target is Target.VERSION:
        return item.version
    if target is Target.LEASE:
        return item.lease
    return item.value


def marker(prefix: str) -> str:
    """A key under `prefix` that nobody else can write or read, because it ends with '/'."""
    return prefix if prefix.endswith("/") else f"{prefix}/"


def prefix_end(prefix: str) -> bytes:
    """The first key, as bytes, after everything under `prefix`.

    Never needs a carry: UTF-8 has no byte 0xff.
    """
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])


def prefix_end_text(prefix: str) -> str:
    """A text that sorts after everything under `prefix` and before the rest; "" when nothing can come after."""
    for index in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[index]) + 1
        if code <= 0x10FFFF:
            return prefix[:index] + chr(0xE000 if 0xD800 <= code <= 0xDFFF else code)
    return ""


def tombstone(key: str, revision: int) -> KeyValue:
    """What a DELETE event carries."""
    return KeyValue(key, b"", 0, revision, 0, 0)


def without_value(item: KeyValue) -> KeyValue:
    """For reads of keys only."""
    return KeyValue(item.key, b"", item.create_revision, item.mod_revision, item.version, item.lease)
