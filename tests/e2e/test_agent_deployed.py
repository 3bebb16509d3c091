"""The agent as a workload on two machines: its image, examples/agent.yaml, what it tells about other workloads."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.agent_node import TcpSink, until
from support.core_processes import CoreProcess
from support.machines import ROOT, Machine, machines
from support.user_cluster import ERU

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]
EXAMPLE = ROOT / "examples" / "agent.yaml"
POD = "eru"
COUNTING = """i=0; while [ $i -lt 400 ]; do echo "$ERU_NODE_NAME $i"; i=$((i+1)); sleep 0.01; done; sleep 1000"""


@dataclass
class Site:
    """Two machines with the agent's image, and a core that knows them as nodes."""

    machines: list[Machine]
    core: CoreProcess
    address: str
    folder: Path

    async def eru(self, *words: str) -> str:
        """The output of a command that must succeed."""
        environ = {**os.environ, "ERU": self.address, "ERU_STATE": str(self.folder), "NO_COLOR": "1"}
        options: dict[str, Any] = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 180}
        done = await asyncio.to_thread(subprocess.run, [*ERU, *words], env=environ, check=False, **options)
        assert done.returncode == 0, f"eru {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return str(done.stdout)

    async def rows(self, *words: str) -> list[dict[str, Any]]:
        """All objects that a listing prints, one after the other or as one array."""
        text, found = (await self.eru("-o", "json", *words)).strip(), []
        while text:
            row, end = json.JSONDecoder().raw_decode(text)
            found.extend(row or [] if isinstance(row, list) or row is None else [row])
            text = text[end:].lstrip()
        return found

    async def workloads(self, app: str) -> list[dict[str, Any]]:
        return sorted(await self.rows("workload", "list", app), key=lambda each: str(each["nodename"]))

    async def available(self) -> dict[str, bool]:
        return {node["name"]: bool(node.get("available")) for node in await self.rows("node", "list")}

    def spec(self, app: str, **entry: Any) -> str:
        path = self.folder / f"{app}.yaml"
        path.write_text(yaml.safe_dump({"appname": app, "entrypoints": {"web": entry}}))
        return str(path)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's tar, made once."""
    path = tmp_path_factory.mktemp("image") / "agent.tar"
    words = [sys.executable, str(ROOT / "scripts" / "agent_image.py"), "--out", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    (path.parent / "import").write_text(done.stdout)
    return path


@pytest.fixture(scope="module")
def site(docker_endpoint: str, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with machines("north", "south") as made, ThreadPoolExecutor() as at_once:
        list(at_once.map(lambda machine: fill(machine, docker_endpoint, image), made))
        folder = tmp_path_factory.mktemp("site")
        core = CoreProcess(folder, "core")
        address = f"{made[0].gateway}:{core.port}"
        core.settings = {
            "bind": address,
            "store": "embedded",
            "data_dir": str(folder / "data"),
            "docker": {"nofile": 0},
        }
        try:
            core.start()
            yield Site(made, core, address, folder)
        finally:
            core.close()


def fill(machine: Machine, docker_endpoint: str, image: Path) -> None:
    """Both images; the agent's by the very command that is printed for it."""
    docker = ["docker", "-H", machine.endpoint]
    words = shlex.split((image.parent / "import").read_text())
    assert words[:2] == ["docker", "import"], words
    subprocess.run([*docker, *words[1:]], check=True, capture_output=True)
    saved = subprocess.run(["docker", "-H", docker_endpoint, "save", "bb"], check=True, capture_output=True).stdout
    subprocess.run([*docker, "load"], input=saved, check=True, capture_output=True)


@pytest.fixture
async def sink(site: Site) -> AsyncIterator[TcpSink]:
    sink = TcpSink(site.machines[0].gateway)
    await sink.start()
    yield sink
    await sink.stop()


def configure(site: Site, sink: TcpSink) -> None:
    """The same file on all machines: nothing in it names one of them. `stdout` would make a loop of its own output."""
    text = yaml.safe_dump(
        {
            "core": [site.address],
            "heartbeat_interval": 1,
            "log": {"forwards": [f"tcp://{sink.host}:{sink.port}"], "stdout": True},
            "metrics": {"step": 1},
            "healthcheck": {"interval": 1, "timeout": 1},
        }
    )
    for machine in site.machines:
        machine.path("/etc/eru/agent.yaml").parent.mkdir(exist_ok=True)
        machine.path("/etc/eru/agent.yaml").write_text(text)


def documented(site: Site, spec: Path = EXAMPLE) -> list[str]:
    """The command in the example's head, with our nodes for the named ones."""
    lines = EXAMPLE.read_text().splitlines()
    first = next(index for index, line in enumerate(lines) if "eru workload deploy" in line)
    words = shlex.split(" ".join(line.lstrip("# ") for line in lines[first : first + 2]))
    assert words[0] == "eru", words
    names = iter(machine.name for machine in site.machines)
    filled = [next(names) if word == "NODE" else word for word in words[1:]]
    return [str(spec) if word == "examples/agent.yaml" else word for word in filled]


def chat(site: Site) -> list[str]:
    """A command that puts a workload on each node that is up, and waits until the agents report it healthy."""
    spec = site.spec("chat", commands=["sh", "-c", COUNTING])
    where = ["--pod", POD, "--entry", "web", "--image", "bb", "--network", "none", "--cpu", "0", "--memory", "16M"]
    return ["workload", "deploy", *where, "--deploy-strategy", "EACH", "--count", "1", "--wait", spec]


def numbers(sink: TcpSink) -> dict[str, list[int]]:
    """What `COUNTING` printed, per node."""
    found: dict[str, list[int]] = {}
    for record in sink.records():
        if record["name"] == "chat":
            name, number = record["data"].split()
            assert record["extra"]["nodename"] == name, record
            found.setdefault(name, []).append(int(number))
    return found


def complete(site: Site, sink: TcpSink) -> bool:
    return {name: sorted(set(got)) for name, got in numbers(sink).items()} == {
        machine.name: list(range(400)) for machine in site.machines
    }


def own(sink: TcpSink) -> list[str]:
    """What the agents printed themselves."""
    return [record["data"] for record in sink.records() if record["name"] == "eru"]


async def figures(machine: Machine) -> str:
    """What the agent on that machine shows to Prometheus, asked from there."""
    code = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:12345/metrics', timeout=30).read().decode())"
    return await asyncio.to_thread(machine.run, sys.executable, "-c", code)


async def shows_figures(site: Site) -> None:
    """Of workloads on each machine, the agent included."""
    for machine, each in zip(site.machines, await site.workloads("chat"), strict=True):

        async def measured(machine: Machine = machine, id: str = each["id"]) -> bool:
            shown = await figures(machine)
            names = ("cpu_container_usage", "mem_usage", "mem_rss", "cpu_host_user_usage")
            return all(f'{name}{{containerID="{id}"' in shown for name in names) and 'appname="eru"' in shown

        await until(measured, f"figures on {machine.name}")


async def is_privileged(machine: Machine, id: str) -> tuple[bool, str]:
    words = ["docker", "-H", machine.endpoint, "inspect", id]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=True)
    host = json.loads(done.stdout)[0]["HostConfig"]
    return bool(host["Privileged"]), str(host["NetworkMode"])


async def all_up(site: Site) -> bool:
    return await site.available() == {machine.name: True for machine in site.machines}


async def all_healthy(site: Site) -> bool:
    found = [*await site.workloads("chat"), *await site.workloads("eru")]
    return len(found) == 4 and all((each.get("status") or {}).get("healthy") for each in found)


@pytest.fixture
async def emptied(site: Site) -> AsyncIterator[Site]:
    """With the machines as nodes that are not up, since nobody beats for them; without workloads at the end."""
    await site.eru("pod", "add", POD)
    names = [machine.name for machine in site.machines]
    for machine in site.machines:
        await site.eru("node", "add", POD, "--nodename", machine.name, "--endpoint", machine.endpoint)
    assert await site.available() == dict.fromkeys(names, False)
    yield site
    for app in ("chat", "eru"):
        await site.eru("workload", "remove", "--app", app, "--force", "--yes")
    for name in names:
        await site.eru("node", "remove", name)
    await site.eru("pod", "remove", POD)


async def test_deployed_as_documented(emptied: Site, sink: TcpSink) -> None:
    site = emptied
    configure(site, sink)
    await site.eru(*documented(site))
    agents = await site.workloads("eru")
    assert [each["nodename"] for each in agents] == [machine.name for machine in site.machines]
    await until(lambda: all_up(site), "both nodes available")
    assert await is_privileged(site.machines[0], agents[0]["id"]) == (True, "host")
    await site.eru(*chat(site))
    await until(lambda: len(numbers(sink)) == 2, "lines of both")

    # An agent ends and comes back while the lines go on.
    await site.eru("workload", "restart", agents[0]["id"])
    await until(lambda: complete(site, sink), "every line of both")
    for name, got in numbers(sink).items():
        assert len(got) - len(set(got)) <= 100, f"{name} repeated {len(got) - len(set(got))} lines"
    await until(lambda: all_up(site), "both nodes available again")
    await until(lambda: all_healthy(site), "all healthy, the agents too")
    await shows_figures(site)

    # Its own lines are forwarded once each; printing them again would make new ones without end.
    before = own(sink)
    assert before, "its own lines are those of a workload"
    await asyncio.sleep(2.0)
    assert len(own(sink)) - len(before) < 10, own(sink)[len(before) :]


async def test_without_privilege_nothing_is_lost_on_a_plain_machine(emptied: Site, sink: TcpSink) -> None:
    """Where no AppArmor, SELinux or user namespace stands between the agent and its mounts."""
    site = emptied
    configure(site, sink)
    spec = site.folder / "agent.yaml"
    spec.write_text(EXAMPLE.read_text().replace("privileged: true", "privileged: false"))
    await site.eru(*documented(site, spec))
    await until(lambda: all_up(site), "both nodes available")
    [first, _] = await site.workloads("eru")
    assert await is_privileged(site.machines[0], first["id"]) == (False, "host")
    await site.eru(*chat(site))
    await until(lambda: complete(site, sink), "every line of both")
    await until(lambda: all_healthy(site), "all healthy, the agents too")
    await shows_figures(site)
