"""The generated stubs say exactly what published clients expect, in both directions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from eru.wire import core_pb2 as pb
from eru.wire import methods
from eru.wire import v1_pb2 as v1

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CONTRACT: dict[str, Any] = json.loads((HERE / "contract.json").read_text())

_TYPES = {getattr(FieldDescriptor, f"TYPE_{name.upper()}"): name for name in ("string", "bytes", "bool")}
_TYPES |= {FieldDescriptor.TYPE_INT32: "int32", FieldDescriptor.TYPE_INT64: "int64"}


def type_name(field: FieldDescriptor) -> str:
    if is_map(field):
        key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
        return f"map<{type_name(key)},{type_name(value)}>"
    if field.message_type is not None:
        return str(field.message_type.full_name).removeprefix("pb.")
    if field.enum_type is not None:
        return str(field.enum_type.full_name).removeprefix("pb.")
    return _TYPES[field.type]


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def label(field: FieldDescriptor) -> str:
    if is_map(field):
        return "map"
    return "repeated" if field.is_repeated else "singular"


def shape(message: Descriptor) -> dict[str, list[object]]:
    return {field.name: [field.number, type_name(field), label(field)] for field in message.fields}


def all_enums() -> dict[str, dict[str, int]]:
    found: list[EnumDescriptor] = list(pb.DESCRIPTOR.enum_types_by_name.values())
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        found.extend(message.enum_types)
    return {enum.full_name.removeprefix("pb."): {value.name: value.number for value in enum.values} for enum in found}


def test_messages_and_fields() -> None:
    ours = {name: shape(message) for name, message in pb.DESCRIPTOR.message_types_by_name.items()}
    assert sorted(ours) == sorted(CONTRACT["messages"])
    for name, fields in CONTRACT["messages"].items():
        assert ours[name] == fields, name


def test_contract_is_whole() -> None:
    assert len(CONTRACT["rpcs"]) == 45
    assert len(CONTRACT["messages"]) == 81
    assert sum(len(fields) for fields in CONTRACT["messages"].values()) == 311


def test_enums() -> None:
    assert all_enums() == CONTRACT["enums"]


def test_rpcs_with_their_streaming_kinds() -> None:
    service = pb.DESCRIPTOR.services_by_name["CoreRPC"]
    assert service.full_name == "pb.CoreRPC"
    ours = {
        rpc.name: [rpc.input_type.name, rpc.output_type.name, int(rpc.client_streaming), int(rpc.server_streaming)]
        for rpc in service.methods
    }
    assert ours == CONTRACT["rpcs"]


def test_no_field_is_required_or_has_presence_of_its_own() -> None:
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        for field in message.fields:
            assert field.message_type is not None or field.is_repeated or not field.has_presence, field.full_name


@pytest.mark.parametrize("service", [pb.DESCRIPTOR.services_by_name["CoreRPC"], v1.DESCRIPTOR.services_by_name["Eru"]])
def test_method_table_equals_the_services(service: Any) -> None:
    kinds = {(False, False): "UnaryUnary", (False, True): "UnaryStream", (True, True): "StreamStream"}
    ours = {
        method.name: (type(method).__name__, method.request.DESCRIPTOR, method.response.DESCRIPTOR)
        for method in methods.ALL.values()
        if method.service == service.full_name
    }
    assert ours == {
        rpc.name: (kinds[rpc.client_streaming, rpc.server_streaming], rpc.input_type, rpc.output_type)
        for rpc in service.methods
    }


def test_error_numbers() -> None:
    ours = {method.name: method.number for method in methods.ALL.values() if method.service == "pb.CoreRPC"}
    assert ours == CONTRACT["numbers"]


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    """Runs the generator that scripts/generate-wire.sh runs and compares."""
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    protos = [f"src/eru/wire/{name}.proto" for name in ("core", "v1")]
    path = str(Path(sys.executable).parent)
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", "src", *outputs, *protos],
        cwd=ROOT,
        check=True,
        env={"PATH": f"{path}:/usr/bin:/bin"},
    )
    made = {file.name: file.read_text() for file in (tmp_path / "eru" / "wire").iterdir()}
    assert len(made) == 8
    for name, text in made.items():
        assert (ROOT / "src/eru/wire" / name).read_text() == text, f"{name}: run scripts/generate-wire.sh"
