"""What `chaos.py` strikes: a whole cluster on this machine, its faults, and the question whether it agrees."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import yaml

from eru.lib.world import real_world
from eru.model.errors import CoreUnreachable, EruError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient, connect
from support.docker import ExtraDocker, ask, limits_here, make_certificates
from support.etcd import EtcdCluster, free_port

APP = "chaos"
SIZE = 3
GROUP_OF_CORES = 61001  # group id of core 0; iptables tells cores apart by it
START_S = 60.0
Fault = Callable[[int, AsyncExitStack], Awaitable[None]]
DOCKER = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))


class Cluster:
    """Processes by name and number. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._etcd = EtcdCluster(folder, SIZE)
        certificates = make_certificates()
        self.dockers = [ExtraDocker(folder / f"d{number}", certificates) for number in range(SIZE)]
        self._ports = [free_port() for _ in range(SIZE)]
        self._profiles = [free_port() for _ in range(SIZE)]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._rules: list[list[str]] = []
        self._struck: set[str] = set()
        self.identifier = ""
        self.faults: dict[str, Fault] = {
            "core dies": self._core_dies,
            "core hangs": self._core_hangs,
            "agent dies": self._agent_dies,
            "docker dies": self._docker_dies,
            "docker hangs": self._docker_hangs,
            "etcd dies": self._etcd_dies,
            "etcd leader dies": self._leader_dies,
            "etcd hangs": self._etcd_hangs,
            "core without etcd": self._cut_off_etcd,
            "core without docker": self._cut_off_docker,
        }

    @property
    def addresses(self) -> list[str]:
        return [f"127.0.0.1:{port}" for port in self._ports]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for rule in list(self._rules):
            self._unblock(rule)
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self._etcd.close()
        for docker in self.dockers:
            docker.clean()

    async def start(self) -> None:
        self._etcd.start()
        for docker in self.dockers:
            docker.start()
            docker.load("bb", DOCKER)
        for number in range(SIZE):
            self._configure(number)
            self._spawn("core", number)
        async with connect(self.addresses, world=real_world()) as core:
            self.identifier = (await self._first_answer(core)).identifier
            await core.unary(rpc.AddPod, pb.AddPodOptions(name="pod"))
            for number, docker in enumerate(self.dockers):
                bag = {"cpu": 2, "share": 100, "memory": 3 << 30}
                tls = {"ca": docker.tls.ca, "cert": docker.tls.cert, "key": docker.tls.key}
                node = pb.AddNodeOptions(
                    nodename=f"n{number}",
                    podname="pod",
                    endpoint=docker.tls_endpoint,
                    resources={"cpumem": json.dumps(bag).encode()},
                    **tls,
                )
                await core.unary(rpc.AddNode, node, timeout_s=START_S)
        for number in range(SIZE):
            self._spawn("agent", number)

    @staticmethod
    async def _first_answer(core: CoreClient) -> pb.CoreInfo:
        async with asyncio.timeout(START_S):
            while True:
                try:
                    return await core.unary(rpc.Info, pb.Empty())
                except CoreUnreachable:
                    await asyncio.sleep(0.2)

    def begin(self, kind: str, which: int) -> bool:
        """Whether this may be struck now: one fault at a time on each machine, and on etcd."""
        key = self._struck_by(kind, which)
        if key in self._struck:
            return False
        self._struck.add(key)
        return True

    def end(self, kind: str, which: int) -> None:
        self._struck.discard(self._struck_by(kind, which))

    async def keep_up(self, end: float) -> None:
        """As a supervisor: a core or agent that ends by itself (no etcd at its start) is started again."""
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            self.revive()
            await asyncio.sleep(1)

    def revive(self) -> None:
        for name in list(self._processes):
            if self._processes[name].poll() is not None and name not in self._struck:
                self._spawn(name[:-1], int(name[-1]))

    def metrics(self, number: int) -> dict[str, float]:
        """Figures without labels."""
        url = f"http://127.0.0.1:{self._profiles[number]}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        rows = (line.split() for line in lines if not line.startswith("#") and "{" not in line)
        return {name: float(value) for name, value in rows}

    def containers(self, number: int) -> dict[str, dict[str, Any]]:
        """Of this cluster, as Docker sees them."""
        wanted = urllib.parse.quote(json.dumps({"label": [f"eru.coreid={self.identifier}"]}))
        socket = self.dockers[number].socket
        status, rows = ask(socket, "GET", f"/containers/json?all=1&filters={wanted}")
        if status != 200:
            raise EruError(f"docker {number}: {rows!r}")
        looks = {row["Id"]: ask(socket, "GET", f"/containers/{row['Id']}/json") for row in json.loads(rows)}
        return {id: json.loads(found) for id, (status, found) in looks.items() if status == 200}

    @staticmethod
    def _struck_by(kind: str, which: int) -> str:
        return "etcd" if kind.startswith("etcd") else f"{kind.split()[0]}{which}" + ("net" if "without" in kind else "")

    def _configure(self, number: int) -> None:
        etcd = [each.removeprefix("http://") for each in self._etcd.endpoints]
        core = {
            "bind": self.addresses[number],
            "profile": f"127.0.0.1:{self._profiles[number]}",
            "store": "etcd",
            "etcd": {"machines": etcd, "prefix": "/chaos"},
            "docker": {"nofile": limits_here().nofile_hard, "network_mode": "none"},
            "global_timeout": "60s",
        }
        agent = {
            "core": self.addresses[number:] + self.addresses[:number],
            "hostname": f"n{number}",
            "heartbeat_interval": 3,
            "pid": str(self._folder / f"agent{number}.pid"),
            "state_dir": str(self._folder / f"state{number}"),
            "check_only_mine": True,
            "docker": {"endpoint": self.dockers[number].unix_endpoint},
            "healthcheck": {"interval": 5, "timeout": 3, "cache_ttl": 60},
        }
        for name, settings in (("core", core), ("agent", agent)):
            (self._folder / f"{name}{number}.yaml").write_text(yaml.safe_dump(settings))

    def _spawn(self, name: str, number: int) -> None:
        command = [sys.executable, "-m", "eru", name, "--config", str(self._folder / f"{name}{number}.yaml")]
        with (self._folder / f"{name}{number}.log").open("ab") as log:
            if name == "core":
                command = ["setpriv", "--regid", str(GROUP_OF_CORES + number), "--clear-groups", *command]
            self._processes[f"{name}{number}"] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait()

    # Faults. Each says on the stack how it is healed.

    async def _core_dies(self, which: int, healing: AsyncExitStack) -> None:
        self._kill(f"core{which}")
        healing.callback(self._spawn, "core", which)

    async def _agent_dies(self, which: int, healing: AsyncExitStack) -> None:
        self._kill(f"agent{which}")
        healing.callback(self._spawn, "agent", which)

    async def _core_hangs(self, which: int, healing: AsyncExitStack) -> None:
        process = self._processes[f"core{which}"]
        process.send_signal(signal.SIGSTOP)
        healing.callback(process.send_signal, signal.SIGCONT)

    async def _docker_dies(self, which: int, healing: AsyncExitStack) -> None:
        await asyncio.to_thread(self.dockers[which].kill)
        healing.push_async_callback(asyncio.to_thread, self.dockers[which].start)

    async def _docker_hangs(self, which: int, healing: AsyncExitStack) -> None:
        pid = int((self.dockers[which].base / "docker.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        healing.callback(os.kill, pid, signal.SIGCONT)

    async def _etcd_dies(self, which: int, healing: AsyncExitStack) -> None:
        self._etcd.kill(which)
        healing.push_async_callback(asyncio.to_thread, self._etcd.start, which)

    async def _leader_dies(self, which: int, healing: AsyncExitStack) -> None:
        await self._etcd_dies(await asyncio.to_thread(self._etcd.leader), healing)

    async def _etcd_hangs(self, which: int, healing: AsyncExitStack) -> None:
        self._etcd.pause(which)
        healing.callback(self._etcd.resume, which)

    async def _cut_off_etcd(self, which: int, healing: AsyncExitStack) -> None:
        self._cut_off(which, [each.rpartition(":")[2] for each in self._etcd.endpoints], healing)

    async def _cut_off_docker(self, which: int, healing: AsyncExitStack) -> None:
        self._cut_off(which, [str(self.dockers[(which + 1) % SIZE].port)], healing)

    def _cut_off(self, core: int, ports: list[str], healing: AsyncExitStack) -> None:
        owner = ["-m", "owner", "--gid-owner", str(GROUP_OF_CORES + core)]
        for port in ports:
            rule = ["OUTPUT", "-o", "lo", "-p", "tcp", *owner, "--dport", port, "-j", "DROP"]
            subprocess.run(["iptables", "-w", "-I", *rule], check=True)
            self._rules.append(rule)
            healing.callback(self._unblock, rule)

    def _unblock(self, rule: list[str]) -> None:
        subprocess.run(["iptables", "-w", "-D", *rule], check=False)
        self._rules.remove(rule)


async def disagreements(cluster: Cluster, there: set[str], gone: set[str]) -> list[str]:
    """What core, Docker, agents and clients (`there`, `gone`: ids they were told of) see differently."""
    try:
        async with connect(cluster.addresses, world=real_world()) as core:
            found = await _of_workloads(cluster, core, there, gone)
            for number in range(SIZE):
                asked = pb.GetNodeResourceOptions(opts=pb.GetNodeOptions(nodename=f"n{number}"))
                found += (await core.unary(rpc.GetNodeResource, asked)).diffs
                figures = await asyncio.to_thread(cluster.metrics, number)
                for name in ("eru_intents", "eru_operations_active", "eru_background_tasks", "eru_engines_unreachable"):
                    if figures[name]:
                        found.append(f"core{number}: {name} is {figures[name]:g}")
            return found
    except (EruError, OSError) as error:
        return [f"cannot be looked at: {error}"]


async def _of_workloads(cluster: Cluster, core: CoreClient, there: set[str], gone: set[str]) -> list[str]:
    listed = {each.id: each async for each in core.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions(), timeout_s=60)}
    real: dict[str, dict[str, Any]] = {}
    for number in range(SIZE):
        real |= await asyncio.to_thread(cluster.containers, number)
    found = [f"{real[id]['Name']} has no record" for id in real.keys() - listed.keys()]
    found += [f"{listed[id].name} has no container" for id in listed.keys() - real.keys()]
    found += [f"{id} is not there, although a client was told so" for id in there - listed.keys()]
    found += [
        f"{id} is there, although a client was told that it is gone" for id in gone & (listed.keys() | real.keys())
    ]
    for id in listed.keys() & real.keys():
        each, state, limits = listed[id], real[id]["State"], real[id]["HostConfig"]
        if each.status.running != state["Running"]:
            found.append(f"{each.name} is {state['Status']}, its status says running={each.status.running}")
        grant = json.loads(each.resources)["cpumem"]
        if limits["Memory"] != grant["memory_limit"]:
            found.append(f"{each.name} has {limits['Memory']} bytes, and was granted {grant['memory_limit']}")
        cores = set(grant.get("cpu_map") or {})
        if cores and set(limits["CpusetCpus"].split(",")) != cores:
            found.append(f"{each.name} runs on cores {limits['CpusetCpus']}, and was granted {sorted(cores)}")
    return found
