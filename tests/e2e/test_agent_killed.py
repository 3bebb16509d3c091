"""Parts of the engine killed in mid-stream. What was printed is known from files, so losses are counted."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.agent_node import AgentProcess, RecordingCore, TcpSink, Workloads, recording_core, until
from support.docker import ExtraDocker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]
# Each run of the workload numbers its lines and notes in /out/<run> which ones it has printed.
PRINTING = """trap "exit 0" TERM; r=$(ls /out | wc -l); : > /out/$r; i=0
while :; do echo run $r line $i; echo $i >> /out/$r; i=$((i+1)); [ $((i%50)) = 0 ] && sleep 0.02; done"""
FULL_SPEED = 150_000  # lines
BLOCK = 1 << 20  # bytes of records on their way from the agent to the kernel
# Bytes that two kernels may hold between agent and receiver: its receive buffer, and the agent's send buffer.
BETWEEN_KERNELS = int(Path("/proc/sys/net/ipv4/tcp_rmem").read_text().split()[2]) + BLOCK
PIPE = 64 << 10  # bytes that wait between a workload and a dead dockerd


class PlainDocker(ExtraDocker):
    """Workloads end with it: without live-restore."""

    def _arguments(self) -> list[str]:
        return [word for word in super()._arguments() if word != "--live-restore"]


class Site:
    """One Docker, the agent beside it, and what workloads have printed."""

    def __init__(self, docker: ExtraDocker, core: RecordingCore, sink: TcpSink, folder: Path) -> None:
        self.docker, self.core, self.sink, self.folder = docker, core, sink, folder
        self.workloads = Workloads(docker.unix_endpoint)
        self.agent = AgentProcess(
            folder,
            core.port,
            docker.unix_endpoint,
            log={"forwards": [sink.address]},
        )

    def print(self, name: str, **host: object) -> str:
        (self.folder / name).mkdir()
        return self.workloads.run("sh", "-c", PRINTING, Binds=[f"{self.folder / name}:/out"], **host)

    def printed(self, name: str, run: int) -> int:
        """Lines of a run; its very last one may not be noted."""
        return (self.folder / name / str(run)).read_bytes().count(b"\n")

    def got(self, id: str, run: int) -> list[int]:
        texts = (re.fullmatch(r"run (\d+) line (\d+)", text) for text in self.sink.texts(id))
        return [int(found[2]) for found in texts if found is not None and int(found[1]) == run]

    def lost(self, id: str, name: str, run: int) -> int:
        return len(set(range(self.printed(name, run))) - set(self.got(id, run)))

    def repeated(self, id: str, run: int) -> int:
        got = self.got(id, run)
        return len(got) - len(set(got))

    async def metric(self, name: str) -> float:
        found = re.search(rf"(?m)^eru_agent_{name} (\S+)$", (await self.agent.get("/metrics")).decode())
        assert found, f"no {name}"
        return float(found[1])


@pytest.fixture(params=[ExtraDocker])
async def site(request: pytest.FixtureRequest, docker_endpoint: str, tmp_path: Path) -> AsyncIterator[Site]:
    docker: ExtraDocker = request.param(Path(tempfile.mkdtemp(prefix="ak")))
    sink = TcpSink()
    await sink.start()
    async with recording_core() as core:
        site = Site(docker, core, sink, tmp_path)
        try:
            await asyncio.to_thread(docker.start)
            await asyncio.to_thread(docker.load, "bb", Path(docker_endpoint.removeprefix("unix://")))
            site.agent.start()
            await until(site.agent.fine, "core and engine")
            yield site
        finally:
            await site.agent.end(signal.SIGKILL)
            await asyncio.to_thread(docker.clean)
            await sink.stop()


@pytest.mark.parametrize("site", [PlainDocker], indirect=True)
async def test_dockerd_killed_and_its_workloads_with_it(site: Site) -> None:
    once, again = site.print("once"), site.print("again", RestartPolicy={"Name": "always"})
    await until(lambda: min(len(site.got(id, 0)) for id in (once, again)) > 500, "lines of both")
    await asyncio.to_thread(site.docker.kill)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(site.docker.start)
    await until(lambda: len(site.got(again, 1)) > 500, "lines of the next run")
    await until(lambda: site.core.last(once).id and not site.core.last(once).running, "the other is down")
    await until(lambda: site.core.last(again).running, "the one with a policy is up")
    assert not site.core.last(once).healthy
    heard = len(site.core.beats)
    await until(lambda: len(site.core.beats) > heard, "heartbeats go on")
    for name, id in (("once", once), ("again", again)):
        lost, line = site.lost(id, name, 0), len("run 0 line 00000\n")
        assert lost * line <= PIPE, f"{name}: lost {lost} of {site.printed(name, 0)}"
        assert site.repeated(id, 0) <= 100
    assert site.got(again, 1)[:500] == list(range(500)), "the next run from its first line on"


async def test_containerd_killed(site: Site) -> None:
    """Docker takes ten seconds to start another one; workloads and their output do not care."""
    id = site.print("out")
    await until(lambda: len(site.got(id, 0)) > 500, "lines")
    file = site.docker.base / "exec" / "containerd" / "containerd.pid"
    pid = int(file.read_text())
    os.kill(pid, signal.SIGKILL)
    await until(lambda: file.exists() and int(file.read_text() or pid) != pid, "another one", 120)
    seen = len(site.got(id, 0))
    await until(lambda: len(site.got(id, 0)) > seen + 500, "lines go on")
    assert site.core.last(id).running
    upto = site.printed("out", 0)
    await until(lambda: not set(range(upto)) - set(site.got(id, 0)), "every line")
    assert site.repeated(id, 0) == 0


@pytest.mark.parametrize("both", [False, True], ids=["agent", "agent and receiver"])
async def test_killed_at_full_speed(site: Site, both: bool) -> None:
    """Nothing lost and at most a block twice; with the receiver also what was between the two kernels."""
    sink, last = site.sink, str(FULL_SPEED)
    id = site.workloads.run("sh", "-c", f"seq 1 {FULL_SPEED}; sleep 1000")
    await until(lambda: len(sink.data) > 4 << 20, "records flow")
    os.kill(site.agent.pid, signal.SIGKILL)
    if both:
        await sink.stop()
    await site.agent.end(signal.SIGKILL)
    assert not has_ended(sink, last), "killed too late to show anything"
    if both:
        await sink.start()
    site.agent.start()
    await until(lambda: has_ended(sink, last), "the last line", 240)
    records = sink.records(id)
    got = [int(record["data"]) for record in records]
    size = len(sink.data) / len(records)
    lost, repeated = FULL_SPEED - len(set(got)), len(got) - len(set(got))
    assert repeated * size <= BLOCK
    assert lost * size <= (BETWEEN_KERNELS if both else 0)


def has_ended(sink: TcpSink, text: str) -> bool:
    return f'"data":"{text}"'.encode() in sink.data[-4000:]


async def test_dockerd_killed_at_full_speed(site: Site) -> None:
    """With live-restore the workload goes on; what dockerd had read and not yet kept or delivered is lost with it."""
    sink = site.sink
    id = site.workloads.run("sh", "-c", f"seq 1 {FULL_SPEED}; sleep 1; echo end; sleep 1000")
    await until(lambda: len(sink.data) > 4 << 20, "records flow")
    await asyncio.to_thread(site.docker.kill)
    assert str(FULL_SPEED).encode() not in sink.data, "killed too late to show anything"
    await asyncio.to_thread(site.docker.start)
    await until(lambda: has_ended(sink, "end"), "the last line", 240)
    got = sink.texts(id)
    lost = {str(number) for number in range(1, FULL_SPEED + 1)} - set(got)
    size = sum(len(text) + 1 for text in lost)
    repeated = sum(len(text) + 1 for text in got) - sum(len(text) + 1 for text in set(got))
    assert size <= BLOCK
    assert repeated <= BLOCK


async def test_a_log_driver_that_keeps_nothing(site: Site) -> None:
    """What is printed while no agent listens is missing, and said; everything else is there."""
    counting = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done"
    id = site.workloads.run("sh", "-c", counting, LogConfig={"Type": "none"})
    await until(lambda: len(site.sink.texts(id)) > 50, "lines")
    await site.agent.end(signal.SIGTERM)
    before = len(site.sink.texts(id))
    await asyncio.sleep(1)
    site.agent.start()
    await until(lambda: len(site.sink.texts(id)) > before + 50, "lines again")
    got = [int(text) for text in site.sink.texts(id)]
    gaps = [(a, b) for a, b in itertools.pairwise(got) if b != a + 1]
    assert len(gaps) == 1, gaps
    assert got[0] < 500, "one that starts before the agent hears of it has printed a little"
    assert gaps[0][1] > gaps[0][0], "nothing comes twice"
    assert "kept output cannot be read" in site.agent.said()
