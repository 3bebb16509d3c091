"""Whatever is asked: an answer or a typed error in bounded time, nothing half done, and core lives on.

Every call of both services, every field with values that hurt. A run is the
same each time; `FUZZ_SEED=any` tries another, whose seed is printed and given
to repeat it, `FUZZ_EXAMPLES=<n>` makes it longer.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.methods import Method, StreamStream
from support.asked_core import Target

_WISH = os.environ.get("FUZZ_SEED") or "1"
SEED = random.SystemRandom().randrange(1 << 32) if _WISH == "any" else int(_WISH)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 25)

TEXTS = [
    *("", " ", "a", "pod", "n1", "n2", "app", "web", "img", "start", "stop", "none", "fake://n1", "fake://n9?cpu=2"),
    *(
        "../evil",
        "a/b",
        "/",
        "..",
        ".",
        "/abs",
        "a b",
        "a_b",
        "ünïcode",
        "nul\0",
        "line\nline",
        "%s%n",
        "-1",
        "0",
        "all",
    ),
    *("eru://x", "unix:///nowhere", "1970-01-01", "5m", "sh -c 'ls", "x" * 5000, "/tmp/x", "/tmp/../x", "10.0.0.1"),
]
BYTES = [
    *(
        b"",
        b"{}",
        b"null",
        b"[]",
        b"x",
        b"\xff\xfe",
        b'{"cpu": "abc"}',
        b'{"cpu": "-1"}',
        b'{"cpu": 0}',
        b'{"memory": -1}',
    ),
    *(b'{"cpu-request": -1}', b'{"cpu-request": 1e308, "cpu-bind": true}', b'{"cpu-request": 0.001, "cpu-bind": true}'),
    *(b'{"cpu-request": NaN}', b'{"cpu-request": "x"}', b'{"memory-request": 1e30}', b'{"memory-limit": "1G"}'),
    *(b'{"volumes-request": ["AUTO:/d:rw:1G"], "volumes": 5}', b'{"prod_count_map": {"a": -1}}', b'{"storage": []}'),
    *(b"\x80{}", b'\x80{"Row": 1, "Col": -5}', b"\x1d", b"[" * 5000, b'{"a": ' * 2000),
]
NUMBERS = [0, 1, 2, 3, -1, -(2**31), 2**31 - 1, 99]
LONG_NUMBERS = [*NUMBERS, 2**63 - 1, -(2**63), 10**12]


def value_of(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return message_of(field.message_type, depth + 1)
    if field.enum_type is not None:
        return st.sampled_from([0, 1, 2, 3, 4, 6, 7, 99, -1, 1000])
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.sampled_from(TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.sampled_from(BYTES)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return st.floats()
    return st.sampled_from(LONG_NUMBERS if field.type == FieldDescriptor.TYPE_INT64 else NUMBERS)


@st.composite
def message_of(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """A message in which every field may be missing, harmless or harmful."""
    made: Message = getattr(pb if descriptor.file.package == "pb" else rpc.v1, descriptor.name)()
    for field in descriptor.fields:
        if depth > 3 or not draw(st.integers(0, 3)):
            continue
        target = getattr(made, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
            for name in draw(st.lists(value_of(key, depth), max_size=2)):
                one = draw(value_of(value, depth))
                if value.message_type is not None:
                    target[name].CopyFrom(one)
                else:
                    target[name] = one
        elif field.is_repeated:
            target.extend(draw(st.lists(value_of(field, depth), max_size=3)))
        elif field.message_type is not None:
            target.CopyFrom(draw(value_of(field, depth)))
        else:
            setattr(made, field.name, draw(value_of(field, depth)))
    return made


@pytest.fixture(scope="module")
def target(pytestconfig: pytest.Config) -> Iterator[Target]:
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        terminal.write_line(f"FUZZ_SEED={SEED} FUZZ_EXAMPLES={EXAMPLES}")
    made = Target()
    with made.runner:
        made.runner.run(made.start())
        yield made
        made.runner.run(made.close())


def with_ids(message: Message, ids: list[str], pick: int) -> Message:
    """Ids that exist in place of some that do not."""
    for field in message.DESCRIPTOR.fields:
        if field.name in ("id", "workload_id", "target", "exist_id") and pick % 2:
            setattr(message, field.name, ids[pick % len(ids)])
        if field.name in ("IDs", "ids") and pick % 3:
            getattr(message, field.name).append(ids[pick % len(ids)])
        if field.name == "targets" and pick % 2:
            message.targets[ids[0]].paths.append("/etc/x")  # type: ignore[attr-defined]
        if field.name == "status" and pick % 2 and field.is_repeated:
            message.status.add(id=ids[0], ttl=pick - 5)  # type: ignore[attr-defined]
    return message


@pytest.mark.parametrize("method", rpc.ALL.values(), ids=lambda method: method.name)
def test_any_request(target: Target, method: Method[Any, Any]) -> None:
    many = 3 if isinstance(method, StreamStream) else 1

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(message_of(method.request.DESCRIPTOR), min_size=1, max_size=many), st.integers(0, 11))
    def one(requests: list[Message], pick: int) -> None:
        async def go() -> None:
            error = await target.call(method, [with_ids(request, target.ids, pick) for request in requests])
            await target.check(method, error)

        target.runner.run(go())

    one()


@pytest.mark.parametrize("method", rpc.ALL.values(), ids=lambda method: method.name)
def test_a_megabyte_in_every_text(target: Target, method: Method[Any, Any]) -> None:
    request = method.request()
    for field in method.request.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            setattr(request, field.name, "x" * 1_000_000)

    async def go() -> None:
        error = await target.call(method, [request])
        if error is not None:
            assert error.code != 13, error
            assert len(str(error)) < 2000
        assert await target.settled() == target.baseline

    target.runner.run(go())


def test_stays_up_after_more_than_it_takes(target: Target) -> None:
    """A request above the size limit is refused by the wire itself."""

    async def go() -> None:
        with pytest.raises(RemoteError) as caught:
            await target.client.unary(rpc.AddPod, pb.AddPodOptions(name="x" * (21 * 1024 * 1024)))
        assert caught.value.code in (8, 1021)
        assert len((await target.client.unary(rpc.ListPods, pb.Empty())).pods) == 1

    target.runner.run(go())
