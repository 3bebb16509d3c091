"""A resource of an external program, from the node to the refusal: the example that is shipped, on real Docker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
from support.verbs import NODE, M, Verbs, bag, options, verbs_core

pytestmark = pytest.mark.docker
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "plugins" / "bandwidth"


@pytest.fixture
def verbs(docker_endpoint: str, tmp_path: Path) -> Iterator[Verbs]:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bandwidth", "unwanted"):
        shutil.copy(EXAMPLE, programs / name)
        (programs / name).chmod(0o755)
    plugins = {"dir": str(programs), "whitelist": ["bandwidth"]}
    with verbs_core(tmp_path, docker_endpoint, resource_plugin=plugins) as verbs:
        yield verbs


def asking(mbits: int, **more: object) -> pb.DeployOptions:
    resources = {**bag(memory_request=16 * M, memory_limit=16 * M), "bandwidth": json.dumps({"mbits": mbits}).encode()}
    return options(resources=resources, **more)


def used(verbs: Verbs) -> int:
    found = verbs.core.GetNode(pb.GetNodeOptions(nodename=NODE))
    usage = json.loads(found.resource_usage)
    assert "unwanted" not in usage
    return int(usage["bandwidth"]["mbits"])


def test_from_the_node_to_the_refusal(verbs: Verbs) -> None:
    made = list(verbs.core.CreateWorkload(asking(300, count=3)))
    assert [message.error for message in made] == [""] * 3
    assert used(verbs) == 900
    grant = json.loads(verbs.core.GetWorkload(pb.WorkloadID(id=made[0].id)).resources)["bandwidth"]
    assert grant["mbits"] == 300
    [refused] = verbs.core.CreateWorkload(asking(300))
    assert refused.error.startswith("need: 1, available: 0: cannot alloc a plan, not enough resource: ")
    assert "bandwidth" in refused.error
    plan = verbs.ours.Plan(v1.PlanRequest(options=asking(300)))
    assert [(one.nodename, one.dimension) for one in plan.refusals] == [(NODE, "bandwidth.capacity")]
    assert verbs.core.CalculateCapacity(asking(50)).total >= 1
    more = {"bandwidth": json.dumps({"mbits": 200}).encode()}
    with pytest.raises(grpc.RpcError) as caught:
        verbs.core.ReallocResource(pb.ReallocOptions(id=made[0].id, resources=more))
    assert f"on node {NODE}" in str(caught.value.details())
    assert used(verbs) == 900
    assert not verbs.core.GetNodeResource(pb.GetNodeResourceOptions(opts=pb.GetNodeOptions(nodename=NODE))).diffs
    verbs.remove_all()
    assert used(verbs) == 0
