"""Every call, every field, every kind of wrong: a typed error or a right answer, in bounded time, and no change.

Each request is right but for one place: a list or sub-message that is missing,
an id that nobody has, a name with `/`, `..`, a space or a megabyte, a negative
or huge number, JSON that is none or of another shape. And each call is left by
its client at moments all over its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.methods import Method, StreamStream, UnaryStream, UnaryUnary
from support.asked_core import REST_S, Target
from support.right_requests import right_requests

MEGABYTE = "x" * 1_000_000
TEXTS = ["", "ghost", "a/b", "..", "a b", MEGABYTE]
NUMBERS = {32: [-1, -(2**31), 2**31 - 1], 64: [-1, -(2**63), 2**63 - 1]}
BYTES = [b"", b"{", b"[]", b'"x"', b'{"cpu-request": {}, "memory-request": [], "cpu": [], "memory": "x"}']
LEFT_AFTER_S = (0.0, 0.003, 0.008, 0.018)  # fake engines take 2 ms for each verb

Change = Callable[[Message], None]


def wrongs(message: Message, path: str = "") -> Iterator[tuple[str, Change]]:
    """(what is wrong, how to make a copy of the message so) for every field, also inside of what is given."""
    for field in message.DESCRIPTOR.fields:
        where, name = f"{path}{field.name}", field.name
        if field.is_repeated or field.message_type is not None:
            yield f"{where} missing", lambda one, name=name: one.ClearField(name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from _of_map(message, field, where)
        elif field.is_repeated and field.type == FieldDescriptor.TYPE_STRING:
            for text in TEXTS:
                yield f"{where} has {text[:8]!r}", lambda one, name=name, text=text: getattr(one, name).append(text)
        elif field.is_repeated and field.message_type is not None:
            for at, part in enumerate(getattr(message, name)):
                for what, change in wrongs(part, f"{where}."):
                    yield what, lambda one, name=name, at=at, change=change: change(getattr(one, name)[at])
        elif field.message_type is not None:
            for what, change in wrongs(getattr(message, name), f"{where}."):
                yield what, lambda one, name=name, change=change: change(getattr(one, name))
        else:
            for value in values_of(field):
                yield f"{where} is {str(value)[:12]!r}", lambda one, name=name, value=value: setattr(one, name, value)


def _of_map(message: Message, field: FieldDescriptor, where: str) -> Iterator[tuple[str, Change]]:
    key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
    name = field.name
    given = next(iter(getattr(message, name)), "k")
    if value.message_type is not None:
        for text in TEXTS:
            yield f"{where} has key {text[:8]!r}", lambda one, text=text: getattr(one, name)[text].SetInParent()
        if given in getattr(message, name):
            for what, change in wrongs(getattr(message, name)[given], f"{where}."):
                yield what, lambda one, change=change: change(getattr(one, name)[given])
        return
    some = next(iter(values_of(value)))
    for text in TEXTS if key.type == FieldDescriptor.TYPE_STRING else []:
        yield f"{where} has key {text[:8]!r}", lambda one, text=text: getattr(one, name).update({text: some})
    for wrong in values_of(value):
        what = f"{where}.{given[:8]} is {str(wrong)[:12]!r}"
        yield what, lambda one, wrong=wrong: getattr(one, name).update({given: wrong})


def values_of(field: FieldDescriptor) -> list[Any]:
    if field.enum_type is not None:
        return [99, -1, 1000]
    if field.type == FieldDescriptor.TYPE_STRING:
        return TEXTS
    if field.type == FieldDescriptor.TYPE_BYTES:
        return BYTES
    if field.type == FieldDescriptor.TYPE_BOOL:
        return [True]
    return NUMBERS[32 if field.type == FieldDescriptor.TYPE_INT32 else 64]


class Table(Target):
    """With a pod and a node that may go."""

    async def start(self) -> None:
        await super().start()
        for name in ("empty", "other"):
            await self.client.unary(rpc.AddPod, pb.AddPodOptions(name=name))
        spare = pb.AddNodeOptions(nodename="spare", podname="other", endpoint="fake://spare", test=True)
        await self.client.unary(rpc.AddNode, spare)
        await self.client.unary(rpc.ConnectNetwork, pb.ConnectNetworkOptions(network="bridge", target=self.ids[0]))
        files = pb.SendOptions(IDs=self.ids, data={"/tmp/x": b"x", "/etc/x": b"x"})
        assert not [sent.error async for sent in self.client.stream(rpc.Send, files) if sent.error]
        beat = pb.SetNodeStatusOptions(nodename="n1", ttl=3600)
        await self.client.unary(rpc.SetNodeStatus, beat)
        self.baseline = await self.stored()

    async def at_rest(self) -> None:
        """Nothing runs any more, the engines have what is recorded, the books agree."""
        now = await self.settled()
        async with asyncio.timeout(REST_S):
            while self.server.calls() or self.core.background.names():  # noqa: ASYNC110 - looked at from outside
                await asyncio.sleep(0.005)
        now = await self.settled()
        recorded = {key.rpartition("/")[2] for key in now if self.keys.split(key)[0] == "workload"}
        there = set(self.fakes.containers())
        assert recorded <= there, "a workload is recorded that no engine has"
        self.kept = there - recorded

    async def anew(self) -> None:
        await self.close()
        await self.start()


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table("cpu=4&memory=16G")
    with made.runner:
        made.runner.run(made.start())
        yield made
        made.runner.run(made.close())


@pytest.fixture
def slow() -> Iterator[Table]:
    verbs = ("create", "start", "stop", "remove", "inspect", "update", "exec", "send_file", "pull", "networks")
    made = Table("cpu=4&memory=16G&" + "&".join(f"{verb}_ms=2" for verb in verbs))
    with made.runner:
        made.runner.run(made.start())
        yield made
        made.runner.run(made.close())


def refused(error: RemoteError | None, messages: list[Any]) -> bool:
    """Whether nothing was done, by the answer's own word."""
    if error is not None:
        return not messages
    told = [getattr(message, "instance", message) for message in messages]
    return bool(told) and all(getattr(one, "error", "") or getattr(one, "success", True) is False for one in told)


@pytest.mark.parametrize("method", rpc.ALL.values(), ids=lambda method: method.name)
def test_the_right_request_is_right(table: Table, method: Method[Any, Any]) -> None:
    """Else the wrong ones would not show anything."""

    async def go() -> None:
        error = await table.call(method, right_requests(method, table.ids))
        if method in (rpc.BuildImage, rpc.RawEngine):
            assert error is not None, "there is no build pod, and fake engines have no raw calls"
            return
        assert error is None, error
        assert not any(getattr(message, "error", "") for message in table.messages), table.messages

    table.runner.run(go())


@pytest.mark.parametrize("method", rpc.ALL.values(), ids=lambda method: method.name)
def test_one_thing_wrong(table: Table, method: Method[Any, Any]) -> None:
    async def one(what: str, requests: list[Any]) -> None:
        error = await table.call(method, requests)
        about = f"{method.name}, {what}: {error or table.messages}"[:2000]
        if error is not None:
            assert error.code != 13, about
            assert len(str(error)) < 2000, about
            assert "Traceback" not in str(error), about
        try:
            await table.at_rest()
        except TimeoutError:
            raise AssertionError(f"does not come to rest: {table.core.background.names()}: {about}") from None
        assert not table.defects.calls, f"failed inside core, after its client had left: {about}"
        now = await table.stored()
        if refused(error, table.messages):
            assert now == table.baseline, f"changed the store though refused: {about}"
            assert not table.kept, f"left something on an engine: {about}"
        if now != table.baseline or table.kept:
            await table.anew()

    async def go() -> None:
        tried = 0
        for what, change in wrongs(right_requests(method, table.ids)[0]):
            requests = right_requests(method, table.ids)
            change(requests[0])
            await one(what, requests)
            tried += 1
        assert tried or not method.request.DESCRIPTOR.fields

    table.runner.run(go())


@pytest.mark.parametrize("after_s", LEFT_AFTER_S)
@pytest.mark.parametrize("method", rpc.ALL.values(), ids=lambda method: method.name)
def test_its_client_leaves(slow: Table, method: Method[Any, Any], after_s: float) -> None:
    async def go() -> None:
        asking = asyncio.ensure_future(asked(slow, method))
        await asyncio.sleep(after_s)
        asking.cancel()
        with suppress(asyncio.CancelledError, RemoteError):
            await asking
        await slow.at_rest()
        assert not slow.kept or method is rpc.DissociateWorkload
        for name in ("n1", "n2"):
            opts = pb.GetNodeResourceOptions(opts=pb.GetNodeOptions(nodename=name))
            assert not (await slow.client.unary(rpc.GetNodeResource, opts)).diffs

    slow.runner.run(go())


STREAMS = [method for method in rpc.ALL.values() if not isinstance(method, UnaryUnary)]


@pytest.mark.parametrize("method", STREAMS, ids=lambda method: method.name)
def test_its_client_does_not_read(slow: Table, method: Method[Any, Any]) -> None:
    """What is under way is finished without it, or goes when it goes; nobody else waits."""

    async def go() -> None:
        requests = right_requests(method, slow.ids)
        if isinstance(method, UnaryStream):
            answers = slow.client.stream(method, requests[0])
        else:
            assert isinstance(method, StreamStream)
            answers = slow.client.both(method, _slowly(requests))
        reading = asyncio.ensure_future(anext(answers, None))
        await asyncio.sleep(0.05)
        assert len((await slow.client.unary(rpc.ListPods, pb.Empty())).pods) == 3
        if not method.watches and isinstance(method, UnaryStream):
            await slow.at_rest()
        reading.cancel()
        with suppress(asyncio.CancelledError, RemoteError):
            await reading
        await answers.aclose()
        await slow.at_rest()
        assert not slow.kept or method is rpc.DissociateWorkload

    slow.runner.run(go())


async def asked(table: Table, method: Method[Any, Any]) -> None:
    requests = right_requests(method, table.ids)
    if isinstance(method, UnaryUnary):
        await table.client.unary(method, requests[0])
        return
    if isinstance(method, UnaryStream):
        answers = table.client.stream(method, requests[0])
    else:
        assert isinstance(method, StreamStream)
        answers = table.client.both(method, _slowly(requests))
    try:
        async for _ in answers:
            pass
    finally:
        await answers.aclose()


async def _slowly(requests: list[Any]) -> Any:
    for request in requests:
        yield request
        await asyncio.sleep(0.004)
    await asyncio.sleep(1)
