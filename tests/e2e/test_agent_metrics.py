"""Figures of workloads against loads that are known, on real Docker: a statsd sink and Prometheus from Debian."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_node import NODE, WAIT_S, AgentProcess, RecordingCore, Workloads, until
from support.docker import SBIN, free_port

pytestmark = pytest.mark.docker
MIB = 1 << 20
TOLERANCE = 0.05
WHEN_TOLD = "while [ ! -e /told/go ]; do sleep 0.05; done"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class StatsdSink(asyncio.DatagramProtocol):
    """Every gauge with its time of arrival: one per figure and step, so that rates can be added up."""

    def __init__(self) -> None:
        self.gauges: dict[str, list[tuple[float, float]]] = {}
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self.port = self._transport.get_extra_info("sockname")[1]

    def stop(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for line in data.decode().splitlines():
            key, _, value = line.removesuffix("|g").rpartition(":")
            self.gauges.setdefault(key, []).append((time.monotonic(), float(value)))

    def of(self, id: str, figure: str) -> list[tuple[float, float]]:
        """(when, value) of one figure of one workload, oldest first."""
        return self.gauges.get(f"ERU.agt.web.{NODE}.{id[-7:]}.{figure}", [])

    def total(self, id: str, figure: str) -> float:
        """What a rate adds up to: each value holds since the one before."""
        found = self.of(id, figure)
        return sum(value * (when - before) for (before, _), (when, value) in itertools.pairwise(found))


@pytest.fixture
async def statsd() -> AsyncIterator[StatsdSink]:
    sink = StatsdSink()
    await sink.start()
    yield sink
    sink.stop()


@pytest.fixture
async def agent(
    core: RecordingCore, statsd: StatsdSink, docker_endpoint: str, tmp_path: Path
) -> AsyncIterator[AgentProcess]:
    process = AgentProcess(
        tmp_path,
        core.port,
        docker_endpoint,
        api={"addr": f"127.0.0.1:{free_port()}"},
        metrics={"step": 1, "transfers": [f"127.0.0.1:{statsd.port}"]},
    )
    yield process
    await process.end(signal.SIGKILL)


def cpu_seconds(pid: int) -> float:
    """Of one process that has no children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def near(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= TOLERANCE * wanted


async def test_cpu_of_a_process_that_burns_a_part_of_one(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads, statsd: StatsdSink
) -> None:
    agent.start()
    part = 0.3
    id = workloads.run("sh", "-c", "while :; do :; done", NanoCpus=int(part * 1e9))
    pid = workloads.ask("GET", f"/containers/{id}/json")["State"]["Pid"]

    async def next_value() -> tuple[float, float]:
        seen = len(statsd.of(id, "cpu_container_usage"))
        await until(lambda: len(statsd.of(id, "cpu_container_usage")) > seen, "another sample")
        return time.monotonic(), cpu_seconds(pid)

    began, burnt = await next_value()
    first = len(statsd.of(id, "cpu_container_usage")) - 1
    while True:  # the longer it lasts, the less it matters that we see a sample later than it was taken
        ended, now = await next_value()
        samples = statsd.of(id, "cpu_container_usage")[first:]
        told = sum(value * part * (when - before) for (before, _), (when, value) in itertools.pairwise(samples))
        if len(samples) > 4 and near(told, now - burnt):
            break
        within = ended - began
        assert within < WAIT_S, f"told {told:.3f} CPU seconds of {now - burnt:.3f} in {within:.2f} s"
    assert told < part * (ended - began) * (1 + TOLERANCE), "more than it may use"


async def test_memory_that_is_held(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads, statsd: StatsdSink
) -> None:
    agent.start()
    size = 96 * MIB
    held = workloads.run(
        "sh",
        "-c",
        "dd if=/dev/zero of=/hold/file bs=1M count=96; sleep 1000",
        Tmpfs={"/hold": "size=200m"},
        Memory=4 * size,
    )
    # tail keeps what it may have to print, and goes on waiting for the end
    grown = workloads.run("sh", "-c", f"(dd if=/dev/zero bs=1M count=96; sleep 1000) | tail -c {size}", Memory=4 * size)

    def last(id: str, figure: str) -> float:
        return (statsd.of(id, figure) or [(0.0, 0.0)])[-1][1]

    await until(lambda: near(last(held, "mem_usage"), size), "a file in memory counted")
    await until(lambda: near(last(held, "mem_percent"), 0.25), "as a part of its limit")
    await until(lambda: near(last(grown, "mem_rss"), size), "memory of a process counted")
    assert last(held, "mem_rss") < 0.1 * size, "a file is no memory of the process"
    assert last(held, "mem_max_usage") >= last(held, "mem_usage")


async def test_bytes_through_the_bridge(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads, statsd: StatsdSink, tmp_path: Path
) -> None:
    agent.start()
    size = 64 * MIB
    receiver = workloads.run("sh", "-c", "sleep 1000 | nc -l -p 9000 > /dev/null", network="bridge")
    address = workloads.ask("GET", f"/containers/{receiver}/json")["NetworkSettings"]["IPAddress"]
    sender = workloads.run(
        "sh",
        "-c",
        f"{WHEN_TOLD}; dd if=/dev/zero bs=1M count=64 | nc {address} 9000; sleep 1000",
        network="bridge",
        Binds=[f"{tmp_path}:/told"],
    )
    await measured(statsd, sender, receiver)
    (tmp_path / "go").touch()
    await until(lambda: counted(workloads, receiver)[0] >= size, f"{size} bytes through the bridge")
    for id, figure, column in ((sender, "eth0.bytes.sent", 1), (receiver, "eth0.bytes.recv", 0)):

        def told(id: str = id, figure: str = figure, column: int = column) -> bool:
            return near(statsd.total(id, figure), counted(workloads, id)[column])

        await until(told, f"{figure} as the kernel counts them")
    assert statsd.total(sender, "eth0.bytes.recv") < TOLERANCE * size
    assert statsd.total(sender, "eth0.packets.sent") > 100


async def measured(statsd: StatsdSink, *ids: str) -> None:
    """Until the agent follows the figures of these, so that none of what they do now is missed."""
    await until(lambda: all(len(statsd.of(id, "cpu_container_usage")) >= 3 for id in ids), "figures before the load")


def counted(workloads: Workloads, id: str) -> tuple[int, int]:
    """Bytes (received, sent) by the kernel's own count, headers included; small packets have many."""
    pid = workloads.ask("GET", f"/containers/{id}/json")["State"]["Pid"]
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "eth0":
            fields = numbers.split()
            return int(fields[0]), int(fields[8])
    return 0, 0


def disk_below(folder: str) -> str:
    """The whole disk that keeps a folder, as `/dev/sda`."""
    number = os.stat(folder).st_dev
    place = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    assert place.is_dir(), f"{folder} is on no block device"
    return f"/dev/{(place.parent if (place / 'partition').exists() else place).name}"


async def test_bytes_written_to_a_disk(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads, statsd: StatsdSink, tmp_path: Path
) -> None:
    """A limit far above the load makes kernels with cgroup v1 count at all."""
    agent.start()
    disk, size = disk_below(workloads.ask("GET", "/info")["DockerRootDir"]), 32 * MIB
    id = workloads.create(
        "sh",
        "-c",
        f"{WHEN_TOLD}; dd if=/dev/zero of=/data/file bs=1M count=32 oflag=direct; sleep 1000",
        Binds=[f"{tmp_path}:/told"],
        Mounts=[{"Type": "volume", "Target": "/data"}],
        BlkioDeviceWriteBps=[{"Path": disk, "Rate": 10 << 30}],
    )
    workloads.ask("POST", f"/containers/{id}/start")
    await measured(statsd, id)
    (tmp_path / "go").touch()
    figure = f"{disk}.io_service_bytes_write"
    await until(lambda: near((statsd.of(id, figure) or [(0.0, 0.0)])[-1][1], size), f"{size} bytes written")
    await until(lambda: near(statsd.total(id, f"{figure}_per_second"), size), "rates that add up to them")


async def prometheus_answers(port: int, query: str) -> list[dict[str, Any]]:
    """Series of an instant query, each with `metric` and `value`; [] while Prometheus does not answer."""

    def ask() -> list[dict[str, Any]]:
        address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return list(json.load(answer)["data"]["result"])
        except OSError:
            return []

    return await asyncio.to_thread(ask)


@pytest.fixture
async def prometheus(agent: AgentProcess, tmp_path: Path) -> AsyncIterator[int]:
    """The port of a Prometheus that scrapes the agent each half second."""
    program = shutil.which("prometheus", path=os.environ["PATH"] + SBIN)
    assert program, "no prometheus: python3 scripts/prepare.py tests"
    target = agent.settings["api"]["addr"]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
        f"scrape_configs: [{{job_name: eru, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    port = free_port()
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it does not block, and its end is awaited in a thread
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    yield port
    process.kill()
    await asyncio.to_thread(process.wait)


async def test_prometheus_scrapes_series_that_come_go_on_and_go(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads, prometheus: int
) -> None:
    agent.start()
    id = workloads.run("sh", "-c", "while :; do :; done", NanoCpus=100_000_000, labels={"quote": 'a "b" \\ c'})
    series = f'cpu_container_usage{{containerID="{id}"}}'

    async def seen() -> bool:
        return bool(await prometheus_answers(prometheus, series))

    async def steady() -> bool:
        found = await prometheus_answers(prometheus, f"avg_over_time({series}[4s])")
        return bool(found) and 0.5 < float(found[0]["value"][1]) < 1.1

    async def gone() -> bool:
        return not await seen()

    await until(seen, "a series")
    labels = (await prometheus_answers(prometheus, series))[0]["metric"]
    assert (labels["appname"], labels["entrypoint"], labels["orchestrator"]) == ("agt", "web", "ERU")
    assert labels["labels"] == f'eru.nodename={NODE},quote=a "b" \\ c'
    await until(steady, "the CPU it may use, all of it")
    up = (await prometheus_answers(prometheus, "up"))[0]["value"][1]
    assert up == "1", "every line of the exposition was understood"
    workloads.ask("POST", f"/containers/{id}/restart?t=0")
    await until(lambda: [s.running for s in core.of(id)][-2:] == [False, True], "restarted")
    await until(steady, "the same series goes on")
    assert len(await prometheus_answers(prometheus, f"last_over_time({series}[1m])")) == 1, "no second series"
    workloads.ask("POST", f"/containers/{id}/kill")
    await until(gone, "no series without a workload")
