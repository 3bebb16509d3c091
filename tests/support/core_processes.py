"""Core processes on ports of their own, over one store, as an operator runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient
from support.ports import free_port
from support.user_cluster import ERU

WAIT_S = 90.0
POD = "pod"
MB = 1 << 20


@dataclass
class CoreProcess:
    """One `eru core`. `settings` are laid over a plain core.yaml."""

    folder: Path
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    _said: int = 0  # bytes of the log that are of earlier lives

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        return self.folder / f"{self.name}.yaml"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def write(self) -> Path:
        """core.yaml, written."""
        plain = {"bind": self.address, "drain": "30s", "grpc": {"service_discovery_interval": "1s"}}
        self.config.write_text(yaml.safe_dump({**plain, **self.settings}))
        return self.config

    def start(self, *, wait: bool = True) -> None:
        self.write()
        self._said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*ERU, "core", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_until_serving()

    def wait_until_serving(self) -> None:
        end = time.monotonic() + WAIT_S
        assert self.process is not None
        while b"core serves" not in self.log.read_bytes()[self._said :]:
            assert self.process.poll() is None, f"{self.name} ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < end, f"{self.name} does not serve: {self.log.read_text()[-2000:]}"
            time.sleep(0.05)

    def kill(self) -> None:
        """As a machine's memory killer would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> None:
        """Ask it to end; returns at once."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Ask it to end and wait for it: its exit code."""
        self.terminate()
        assert self.process is not None
        return self.process.wait(60)

    def rss_mb(self) -> float:
        """Resident memory, MiB."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("a process without memory")

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


def node_options(name: str, *, endpoint: str = "", cpu: int = 24, memory: int = 64 << 30) -> pb.AddNodeOptions:
    """A node of the pod that counts as up without an agent."""
    resources = {"cpumem": json.dumps({"cpu": cpu, "memory": memory}).encode()}
    endpoint = endpoint or f"fake://{name}"
    return pb.AddNodeOptions(nodename=name, endpoint=endpoint, podname=POD, resources=resources, test=True)


def deploy_options(app: str, count: int, *, memory: int = 4 * MB, **more: Any) -> pb.DeployOptions:
    """Unbound, little memory, no pull, no network."""
    request = {"cpu-request": 0.01, "memory-request": str(memory)}
    fields: dict[str, Any] = {
        "name": app,
        "entrypoint": pb.EntrypointOptions(name="main", commands=["sleep", "100000"]),
        "podname": POD,
        "image": "bb",
        "count": count,
        "deploy_strategy": pb.DeployOptions.AUTO,
        "resources": {"cpumem": json.dumps(request).encode()},
        "networks": {"none": ""},
        "ignore_pull": True,
    }
    return pb.DeployOptions(**{**fields, **more})


async def deployed(core: CoreClient, options: pb.DeployOptions) -> list[pb.CreateWorkloadMessage]:
    """All answers of one deploy."""
    return [message async for message in core.stream(rpc.CreateWorkload, options, timeout_s=120)]


async def removed(core: CoreClient, ids: list[str]) -> list[pb.RemoveWorkloadMessage]:
    options = pb.RemoveWorkloadOptions(IDs=ids, force=True)
    return [message async for message in core.stream(rpc.RemoveWorkload, options, timeout_s=120)]


async def listed(core: CoreClient, app: str = "") -> list[pb.Workload]:
    options = pb.ListWorkloadsOptions(appname=app)
    return [workload async for workload in core.stream(rpc.ListWorkloads, options, timeout_s=60)]


async def books(core: CoreClient, node: str) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """(capacity, usage, what does not add up) of one node, cpumem only."""
    found = await core.unary(rpc.GetNodeResource, pb.GetNodeResourceOptions(opts=pb.GetNodeOptions(nodename=node)))
    capacity, usage = json.loads(found.resource_capacity), json.loads(found.resource_usage)
    return capacity["cpumem"], usage["cpumem"], list(found.diffs)
