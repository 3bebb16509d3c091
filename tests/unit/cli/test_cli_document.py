from __future__ import annotations

import json

from eru.cli.show.document import as_data, expanded, to_json, to_yaml
from eru.wire import core_pb2 as pb


def test_names_order_and_zero_values_are_as_published():
    node = pb.Node(name="n1", podname="p", available=True, resource_usage="{}", test=True, labels={"b": "2", "a": "1"})
    assert to_json(as_data(node)) == (
        '{\n  "name": "n1",\n  "podname": "p",\n  "available": true,\n'
        '  "labels": {\n    "a": "1",\n    "b": "2"\n  },\n'
        '  "resource_usage": "{}",\n  "test": true\n}\n'
    )


def test_numbers_bytes_enums_and_empty_messages():
    status = pb.WorkloadStatus(id="x", extension=b"\x00\xff", ttl=2**53 + 1)
    assert as_data(status) == {"id": "x", "extension": "AP8=", "ttl": 2**53 + 1}
    assert as_data(pb.SetNodeOptions(bypass=pb.FALSE)) == {"bypass": 2}
    assert as_data(pb.Workload(id="x", status=pb.WorkloadStatus())) == {"id": "x", "status": {}}
    assert as_data(pb.Workload(id="x")) == {"id": "x"}


def test_markup_is_escaped():
    assert to_json("<a & b>") == '"\\u003ca \\u0026 b\\u003e"\n'
    assert to_json({"a": 1}, indent=None) == '{"a":1}\n'
    assert to_json(None) == "null\n"


def test_yaml_is_sorted_and_followed_by_an_empty_line():
    assert to_yaml([{"name": "p", "desc": "x"}]) == "- desc: x\n  name: p\n\n"
    assert to_yaml(None) == "null\n\n"
    assert to_yaml({"ERU": "1", "on": "yes", "n": 1}) == 'ERU: "1"\n"n": 1\n"on": "yes"\n\n'


def test_json_in_strings_can_be_opened():
    data = expanded([{"resources": '{"cpumem":{"cpu":1}}', "info": "not json", "name": "{}"}])
    assert data == [{"resources": {"cpumem": {"cpu": 1}}, "info": "not json", "name": "{}"}]
    assert json.loads(to_json(data)) == data
