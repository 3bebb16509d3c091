"""Messages and small readers that several suites of the command line share."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToDict

from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1

ID = "a" * 63
ONE, TWO = ID + "1", ID + "2"
NODE = pb.Node(
    name="n1",
    endpoint="tcp://127.0.0.1:2376",
    podname="pod1",
    available=True,
    resource_capacity='{"cpumem":{"cpu":4,"cpu_map":{"0":100}}}',
    resource_usage='{"cpumem":{"cpu":1.5,"cpu_map":{"0":50}}}',
)
WORKLOAD = pb.Workload(
    id=ONE,
    name="app_web_abcdef",
    podname="pod1",
    nodename="n1",
    publish={"host": "127.0.0.1:80,127.0.0.1:81"},
    status=pb.WorkloadStatus(id=ONE, running=True, healthy=True, networks={"host": "127.0.0.1"}),
    resources='{"cpumem":{"cpu_request":1}}',
)
OTHER = pb.Workload(id=TWO, name="app_web_ghijkl", podname="pod2", nodename="n2", resources="{}")
SPEC = "appname: app\nentrypoints:\n  web:\n    commands: [sleep, '1']\nlabels: {a: b}\nvolumes: ['/a:/b']\n"


def bag(message: Any) -> dict[str, Any]:
    return {kind: json.loads(data) for kind, data in message.resources.items()}


def asked(message: Any) -> dict[str, Any]:
    """The request as a plain dict, zero values left out, without resource bags."""
    data = MessageToDict(message, preserving_proto_field_name=True)
    data.pop("resources", None)
    return data


DEPLOY = ("--pod", "p", "--entry", "web", "--image", "img")


def deployed(*instances: pb.CreateWorkloadMessage) -> list[v1.DeployEvent]:
    return [v1.DeployEvent(instance=each) for each in instances]


GOOD = pb.CreateWorkloadMessage(
    id=ONE, name="app_web_abcdef", nodename="n1", success=True, publish={"host": "1.2.3.4:80"}
)
BAD = pb.CreateWorkloadMessage(nodename="n2", error="no such image")
