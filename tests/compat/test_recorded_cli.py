"""A recorded session of the published cli with the published core, replayed against ours.

Each line of the recording is one call: the cli's request bytes as it sent
them, the core's answer bytes, and whether the call succeeded. It was taken on
the in-memory engine that both cores have, so only what depends on an engine's
own content may differ. Our core has to agree on success, on the number of
answers, and has to fill at least the fields that the published core filled.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from eru.core.app import Core
from eru.core.service import serve
from eru.core.settings import CoreSettings
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool
from eru.lib.world import real_world
from eru.model.errors import RemoteError
from eru.resource.registry import builtin_kinds
from eru.store.keys import Keys
from eru.store.memory import MemoryStore
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient, connect
from eru.wire.methods import StreamStream, UnaryUnary
from eru.wire.server import ServerSettings

RECORDING = Path(__file__).parent / "recorded_cli.jsonl"
METHODS = {method.name: method for method in rpc.ALL.values() if method.service == "pb.CoreRPC"}
ID = re.compile(rb"[A-Za-z]{64}")
JSON_FIELDS = {"resource_capacity", "resource_usage", "resources"}

# What an engine without substance says differs from one to the other (the published one keeps quiet about control,
# and about replace, which is why that is not replayed): only success is compared.
CONTENT = {"LogStream", "ExecuteWorkload", "RunAndWait", "Copy", "ListNetworks", "ControlWorkload"}
CONTENT |= {"ListImage", "RemoveImage", "CacheImage"}
# Deliberate: ours is not built, and answers with the node as it is after the change.
WITHOUT = {"Info": {"build_at", "revison"}, "SetNode": {"available"}}


def recorded() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RECORDING.read_text().splitlines()]


def parsed(kind: type[Message], data: bytes) -> Message:
    message = kind.FromString(data)
    assert kind.FromString(message.SerializeToString()) == message
    return message


def unknown_fields(message: Message) -> list[int]:
    found = [field.field_number for field in UnknownFieldSet(message)]  # type: ignore[no-untyped-call]
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for part in value if field.is_repeated else [value]:
            found.extend(unknown_fields(part))
    return found


@pytest.mark.parametrize("call", recorded(), ids=lambda call: f"{call['rpc']}: {call['command'][:40]}")
def test_every_recorded_message_is_understood_whole(call: dict[str, Any]) -> None:
    method = METHODS[call["rpc"]]
    for kind, datas in ((method.request, call["requests"]), (method.response, call["answers"])):
        for data in datas:
            assert unknown_fields(parsed(kind, bytes.fromhex(data))) == []


class Replay:
    """Our core, and which of its workloads stands for which recorded one."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self._ids: dict[bytes, bytes] = {}

    async def send(self, call: dict[str, Any]) -> tuple[bool, list[Message], str]:
        method = METHODS[call["rpc"]]
        requests = [
            method.request.FromString(await self._with_our_ids(bytes.fromhex(data))) for data in call["requests"]
        ]
        try:
            async with asyncio.timeout(60):
                if isinstance(method, UnaryUnary):
                    return True, [await self._client.unary(method, requests[0])], ""
                if isinstance(method, StreamStream):
                    return True, [message async for message in self._client.both(method, _each(requests))], ""
                return True, [message async for message in self._client.stream(method, requests[0])], ""  # type: ignore[arg-type]
        except RemoteError as error:
            return False, [], f"{error.code} {error}"

    async def _with_our_ids(self, data: bytes) -> bytes:
        for theirs in ID.findall(data):
            if theirs not in self._ids:
                self._ids[theirs] = await self._unused()
            data = data.replace(theirs, self._ids[theirs])
        return data

    async def _unused(self) -> bytes:
        listing = self._client.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions())
        ours = [workload.id.encode() async for workload in listing]
        return next(id for id in ours if id not in self._ids.values())


async def _each(requests: list[Message]) -> AsyncIterator[Message]:
    for request in requests:
        yield request


def filled(message: Message) -> set[str]:
    """Names of all fields with a value, sub-messages and the keys of JSON texts included."""
    names: set[str] = set()
    for field, value in message.ListFields():
        names.add(field.name)
        if field.name in JSON_FIELDS:
            names |= {f"{field.name}.cpumem.{key}" for key in (json.loads(value) or {}).get("cpumem", {})}
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for part in value if field.is_repeated else [value]:
                names |= {f"{field.name}.{name}" for name in filled(part)}
    return names


async def test_replay() -> None:
    world = real_world()
    store, fakes = MemoryStore(world), FakeCluster()
    fakes.node("n").networks["net"] = []
    engines = EnginePool(world, engine_factories(fakes=fakes))
    core = Core(world, store, Keys(), engines, builtin_kinds(), CoreSettings(address="127.0.0.1:1"))
    await core.start()
    server = await serve(core, ServerSettings(bind="127.0.0.1:0", drain_s=0.2))
    differences: list[str] = []
    try:
        async with connect(f"127.0.0.1:{server.port}", world=world) as client:
            replay = Replay(client)
            for number, call in enumerate(recorded(), start=1):
                if not call.get("replay", True):
                    continue
                ok, ours, text = await replay.send(call)
                differences += [f"line {number} ({call['command']}): {d}" for d in compare(call, ok, ours, text)]
    finally:
        await core.drain(1)
        await server.drain()
        await core.stop()
        await engines.close()
        await store.close()
    assert not differences, "\n".join(differences)


def compare(call: dict[str, Any], ok: bool, ours: list[Message], text: str) -> list[str]:
    """One sentence per difference that a client could notice."""
    if ok != call["ok"]:
        return [f"{call['rpc']} {'succeeded' if ok else 'failed: ' + text} here, there it was the other way round"]
    method = METHODS[call["rpc"]]
    if not ok and not text.startswith(f"{method.number} "):
        return [f"{call['rpc']} failed with {text}, expected number {method.number}"]
    if not ok or call["rpc"] in CONTENT:
        return []
    theirs = [method.response.FromString(bytes.fromhex(data)) for data in call["answers"]]
    if len(ours) != len(theirs):
        return [f"{call['rpc']} gave {len(ours)} answers, there {len(theirs)}: {ours} {theirs}"]
    missing = set[str]().union(*map(filled, theirs)) - set[str]().union(*map(filled, ours))
    missing -= WITHOUT.get(call["rpc"], set())
    return [f"{call['rpc']} left out {sorted(missing)}"] if missing else []
