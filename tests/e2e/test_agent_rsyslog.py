"""The receiver of docs/operations/rsyslog.md: a real rsyslog with a file per app, killed in the middle."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.agent_node import AgentProcess, Printer, RecordingCore, Workloads, until
from support.docker import SBIN, free_port

pytestmark = pytest.mark.docker
PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations" / "rsyslog.md"
LINES = 20_000
LOST_MAX = 2_000  # what the dead receiver had taken from the network and not written: its buffers


class Rsyslog:
    """rsyslogd with the configuration of the page; only its folders and its port are others."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        for made in (folder / "spool", folder / "logs"):
            made.mkdir(parents=True)
        found = re.search(r"```\n(# /etc/rsyslog.d/.*?)```", PAGE.read_text(), re.DOTALL)
        assert found, f"{PAGE.name} has no configuration"
        text = found[1].replace("/var/log/eru/", f"{folder}/logs/").replace("/var/spool/rsyslog", f"{folder}/spool")
        changed = text.replace('port="5144"', f'port="{port}" address="127.0.0.1"')
        assert changed != text
        (folder / "rsyslog.conf").write_text(changed)

    def start(self) -> None:
        program = shutil.which("rsyslogd", path=os.environ["PATH"] + SBIN)
        assert program, "no rsyslogd: python3 scripts/prepare.py tests"
        (self.folder / "rsyslog.pid").unlink(missing_ok=True)
        with (self.folder / "said").open("ab") as out:
            self._process = subprocess.Popen(
                [program, "-n", "-f", f"{self.folder}/rsyslog.conf", "-i", f"{self.folder}/rsyslog.pid"],
                stdout=out,
                stderr=out,
            )

    def end(self, number: int = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait()

    def lines(self, app: str) -> list[str]:
        """The text of each complete line in an app's file, without what the template puts before it."""
        try:
            data = (self.folder / "logs" / f"{app}.log").read_text()
        except FileNotFoundError:
            return []
        return [line.split(" ", 4)[4] for line in data[: data.rfind("\n") + 1].splitlines()]


@pytest.fixture
async def rsyslog(tmp_path: Path) -> AsyncIterator[Rsyslog]:
    made = Rsyslog(tmp_path / "rsyslog", free_port())
    yield made
    await asyncio.to_thread(made.end, signal.SIGKILL)


@pytest.fixture
def agent(agent: AgentProcess, rsyslog: Rsyslog) -> AgentProcess:
    agent.forward_to(f"tcp://127.0.0.1:{rsyslog.port}")
    return agent


def printing(lines: int, burst: int) -> tuple[str, str, str]:
    """`line 0`, `line 1`, ... with a short pause after each burst, then it stays."""
    loop = f"echo line $i; i=$((i+1)); [ $((i%{burst})) = 0 ] && sleep 0.02"
    return "sh", "-c", f"i=0; while [ $i -lt {lines} ]; do {loop}; done; sleep 1000"


async def test_every_line_in_the_file_of_its_app(
    core: RecordingCore, agent: AgentProcess, rsyslog: Rsyslog, workloads: Workloads
) -> None:
    rsyslog.start()
    agent.start()
    await until(agent.fine, "the engine listed")
    for app in ("shop", "mail"):
        workloads.run(*printing(LINES, 500), app=app)
    for app in ("shop", "mail"):
        await until(lambda: rsyslog.lines(app)[-1:] == [f"line {LINES - 1}"], f"the last line of {app}")  # noqa: B023 - awaited in this round
        assert rsyslog.lines(app) == [f"line {number}" for number in range(LINES)]


async def test_rsyslog_killed_in_the_middle(
    core: RecordingCore, agent: AgentProcess, rsyslog: Rsyslog, workloads: Workloads, tmp_path: Path
) -> None:
    rsyslog.start()
    agent.start()
    await until(agent.fine, "the engine listed")
    printer = Printer(workloads, tmp_path, app="shop")
    await until(lambda: len(rsyslog.lines("shop")) > LINES / 10, "lines flow")
    await asyncio.to_thread(rsyslog.end, signal.SIGKILL)
    await until(lambda: "log receiver" in agent.said(), "the agent says so")
    rsyslog.start()
    printer.end()
    await until(lambda: printer.printed(rsyslog.lines("shop")), "the last line")
    got = rsyslog.lines("shop")
    lost = set(range(printer.printed(got))) - set(printer.numbers(got))
    assert len(lost) <= LOST_MAX, f"lost {len(lost)} of {printer.printed(got)}"
    metrics = (await agent.get("/metrics")).decode()
    told = re.search(r"eru_agent_forward_repeated_total\{[^}]*\} (\d+)", metrics)
    assert told, "what is sent again is counted"
    assert len(got) - len(set(got)) <= int(told[1]), "more came twice than the agent sent again"
    assert re.search(r"eru_agent_forward_dropped_total\{[^}]*\} 0\b", metrics), "the agent dropped nothing"
