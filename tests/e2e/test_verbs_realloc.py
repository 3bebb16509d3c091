"""Realloc and the shared pool of cores, seen in the cgroup of the running process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from eru.wire import core_pb2 as pb
from support.verbs import M, Verbs, bag, until

pytestmark = pytest.mark.docker


def realloc(verbs: Verbs, id: str, **delta: Any) -> None:
    verbs.core.ReallocResource(pb.ReallocOptions(id=id, resources=bag(**delta)))


def cgroup(verbs: Verbs, id: str, controller: str, v1: str, v2: str) -> str:
    """A value of the container's cgroup, as the kernel has it."""
    pid = verbs.inspect(id)["State"]["Pid"]
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return _first(Path("/sys/fs/cgroup") / controller, path, v1)
        if not names:
            unified = path
    return _first(Path("/sys/fs/cgroup"), unified, v2)


def _first(base: Path, path: str, name: str) -> str:
    """Inside a namespace the path may start above our own root."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for start in range(len(parts) + 1):
        found = base.joinpath(*parts[start:], name)
        if found.exists() and parts[start:]:
            return found.read_text().strip()
    raise AssertionError(f"no {name} below {base} for {path}")


def memory(verbs: Verbs, id: str) -> int:
    return int(cgroup(verbs, id, "memory", "memory.limit_in_bytes", "memory.max"))


def cpuset(verbs: Verbs, id: str) -> set[int]:
    text = cgroup(verbs, id, "cpuset", "cpuset.cpus", "cpuset.cpus")
    cores: set[int] = set()
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        cores.update(range(int(low), int(high or low) + 1))
    return cores


def grant(verbs: Verbs, id: str) -> dict[str, Any]:
    found = verbs.core.GetWorkload(pb.WorkloadID(id=id))
    return dict(json.loads(found.resources)["cpumem"])


def test_limits_change_while_it_runs_and_stay_when_refused(verbs: Verbs) -> None:
    [id] = verbs.deploy()
    pid = verbs.inspect(id)["State"]["Pid"]
    assert memory(verbs, id) == 16 * M
    realloc(verbs, id, memory_request=16 * M, memory_limit=16 * M, cpu_request=0.5, cpu_limit=0.5)
    assert memory(verbs, id) == 32 * M
    assert verbs.inspect(id)["HostConfig"]["CpuQuota"] == 50000
    assert verbs.inspect(id)["State"]["Pid"] == pid
    assert verbs.usage()["memory"] == 32 * M
    before = (grant(verbs, id), verbs.usage())
    for delta in ({"memory_request": 1 << 45, "memory_limit": 1 << 45}, {"cpu_request": -9, "cpu_limit": -9}):
        with pytest.raises(grpc.RpcError) as caught:
            realloc(verbs, id, **delta)
        assert dict(caught.value.trailing_metadata())["eru-code"] == "10710"
    # The engine itself says no here, after the books were changed.
    with pytest.raises(grpc.RpcError):
        realloc(verbs, id, memory_request=-31 * M, memory_limit=-31 * M)
    assert (grant(verbs, id), verbs.usage()) == before
    assert memory(verbs, id) == 32 * M


def test_binding_and_the_shared_pool(verbs: Verbs) -> None:
    [id] = verbs.deploy(resources=bag(cpu_request=1, cpu_limit=1, memory_request=16 * M, memory_limit=16 * M))
    here = cpuset(verbs, id)
    [other] = verbs.deploy(resources=bag(cpu_request=0.5, cpu_limit=0.5))
    realloc(verbs, id, cpu_bind=True)
    bound = {int(core) for core in grant(verbs, id)["cpu_map"]}
    assert len(bound) == 1
    assert cpuset(verbs, id) == bound
    if len(here) > 1:  # the others leave that core
        until(lambda: not cpuset(verbs, other) & bound, "the shared pool without the bound core")
    realloc(verbs, id, keep_cpu_bind=True, memory_request=16 * M, memory_limit=16 * M)
    assert cpuset(verbs, id) == bound
    realloc(verbs, id)
    assert grant(verbs, id)["cpu_map"] is None
    until(lambda: cpuset(verbs, other) == cpuset(verbs, id) == here, "all cores for everybody again")
