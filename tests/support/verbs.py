"""A core process with one Docker node, spoken to as any gRPC client does."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import yaml

from eru.wire import core_pb2 as pb
from eru.wire.core_pb2_grpc import CoreRPCStub
from eru.wire.v1_pb2_grpc import EruStub
from support.ports import free_port

NODE, POD, APP = "box", "pod", "verbs"
WAIT_S = 90.0
# Ends at once when it is asked to, unlike `sleep` as the first process of a container.
FOREVER = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
M = 1 << 20


@dataclass
class Verbs:
    """Stubs of one running core, and the Docker behind its node."""

    identifier: str
    engine: str
    channel: grpc.Channel

    @property
    def core(self) -> Any:
        return CoreRPCStub(self.channel)

    @property
    def ours(self) -> Any:
        return EruStub(self.channel)

    def docker(self, *words: str) -> str:
        done = subprocess.run(["docker", "-H", self.engine, *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def inspect(self, id: str) -> dict[str, Any]:
        return dict(json.loads(self.docker("inspect", id))[0])

    def inside(self, id: str, *words: str) -> str:
        return self.docker("exec", id, *words)

    def containers(self) -> set[str]:
        """Ids of all that this core made and that still exist."""
        label = f"label=eru.coreid={self.identifier}"
        return set(self.docker("ps", "-aq", "--no-trunc", "--filter", label).split())

    def running(self, id: str) -> bool:
        return bool(self.inspect(id)["State"]["Running"])

    def add_node(self, name: str, *, test: bool = True) -> None:
        cores = len(os.sched_getaffinity(0))
        bag = json.dumps({"cpu": cores, "share": 100, "memory": 4 << 30}).encode()
        where = {"nodename": name, "podname": POD, "endpoint": self.engine, "test": test}
        self.core.AddNode(pb.AddNodeOptions(**where, resources={"cpumem": bag}))

    def deploy(self, **more: Any) -> list[str]:
        """Ids of what was made; all of it must have been."""
        messages = list(self.core.CreateWorkload(options(**more)))
        assert all(message.success for message in messages), messages
        return [message.id for message in messages]

    def recorded(self, app: str = APP) -> list[str]:
        return [found.id for found in self.core.ListWorkloads(pb.ListWorkloadsOptions(appname=app))]

    def usage(self, name: str = NODE) -> dict[str, Any]:
        node = self.core.GetNode(pb.GetNodeOptions(nodename=name))
        return dict(json.loads(node.resource_usage)["cpumem"])

    def remove_all(self) -> None:
        ids = [found.id for found in self.core.ListWorkloads(pb.ListWorkloadsOptions())]
        if ids:
            gone = list(self.core.RemoveWorkload(pb.RemoveWorkloadOptions(IDs=ids, force=True)))
            assert all(message.success for message in gone), gone


def bag(**values: Any) -> dict[str, bytes]:
    """cpumem's request, with `_` for `-`."""
    return {"cpumem": json.dumps({name.replace("_", "-"): value for name, value in values.items()}).encode()}


def options(
    app: str = APP, count: int = 1, commands: list[str] | None = None, entry: dict[str, Any] | None = None, **more: Any
) -> pb.DeployOptions:
    """A deploy of `bb` without network and 16 MiB of memory, unless said otherwise."""
    entrypoint = pb.EntrypointOptions(name="main", commands=commands or FOREVER, **(entry or {}))
    rest: dict[str, Any] = {"image": "bb", "podname": POD, "networks": {"none": ""}}
    rest["resources"] = bag(memory_request=16 * M, memory_limit=16 * M)
    return pb.DeployOptions(name=app, entrypoint=entrypoint, count=count, **{**rest, **more})


def until(true: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    """Ask again and again until it is true; a failure that says what never came."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return found


@contextmanager
def verbs_core(folder: Path, engine: str, **more: Any) -> Iterator[Verbs]:
    """A core with the embedded store, a pod and a node; what it made is removed at the end. `more`: of core.yaml."""
    address = f"127.0.0.1:{free_port()}"
    identifier = f"verbs-{address.rpartition(':')[2]}-{folder.name}"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    settings = {
        "bind": address,
        "store": "embedded",
        "data_dir": str(folder / "data"),
        "identifier": identifier,
        "docker": {"nofile": 65535 if hard < 0 else min(hard, 65535), "network_mode": "none"},
        **more,
    }
    config = folder / "core.yaml"
    config.write_text(yaml.safe_dump(settings))
    with (folder / "core.log").open("wb") as out:
        command = [sys.executable, "-m", "eru", "core", "--config", str(config)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    verbs = None
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(WAIT_S)
            verbs = Verbs(identifier, engine, channel)
            verbs.core.AddPod(pb.AddPodOptions(name=POD))
            verbs.add_node(NODE)
            yield verbs
    finally:
        process.kill()
        process.wait()
        if verbs is not None and (left := verbs.containers()):
            verbs.docker("rm", "-f", *left)
