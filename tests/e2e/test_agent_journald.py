"""Records in a real journal: journald by hand in a mount namespace of its own, read back with journalctl.

And the units that run agent and core under systemd, as systemd itself sees them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_node import NODE, POD, AgentProcess, Printer, Workloads, until
from support.machines import ROOT

pytestmark = pytest.mark.docker
JOURNALD = "/lib/systemd/systemd-journald"
QUEUE = 512  # datagrams that the kernel may hold for a receiver, net.unix.max_dgram_qlen
# journald's places are fixed, so it gets a /run of its own; and an identity where the machine has none.
BEGIN = """
set -e
mount --bind "$BASE/run" /run
[ -s /etc/machine-id ] || mount --bind "$BASE/machine-id" /etc/machine-id
exec "$0"
"""


class Journald:
    """One that can be killed and started again; its journal stays."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._process: subprocess.Popen[bytes] | None = None
        for folder in ("systemd/journal", "systemd/journald.conf.d", "log/journal"):
            (base / "run" / folder).mkdir(parents=True)
        # As in docs/agent.md: the agent speaks for many, and one speaker's share would be too small.
        (base / "run/systemd/journald.conf.d/eru.conf").write_text("[Journal]\nRateLimitIntervalSec=0\n")
        (base / "machine-id").write_text("1" * 32)

    @property
    def socket(self) -> Path:
        return self._base / "run/systemd/journal/socket"

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", BEGIN, JOURNALD],
            env={**os.environ, "BASE": str(self._base)},
            stdin=subprocess.DEVNULL,
        )
        end = time.monotonic() + 60
        while not self.socket.exists():
            assert self._process.poll() is None, "journald ended"
            assert time.monotonic() < end, "journald has made no socket"
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def entries(self, id: str) -> list[dict[str, Any]]:
        """Everything of one workload, oldest first."""
        words = ["journalctl", "-D", str(self._base / "run/log/journal"), "-o", "json", "--all", "-q", f"ID={id}"]
        done = subprocess.run(words, capture_output=True, check=True, timeout=120)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def texts(self, id: str) -> list[str]:
        found = [entry["MESSAGE"] for entry in self.entries(id)]  # control characters make it a list of bytes
        texts = [text if isinstance(text, str) else bytes(text).decode() for text in found]
        return [text.removeprefix("message ") for text in texts]


@pytest.fixture
def journald() -> Iterator[Journald]:
    base = Path(tempfile.mkdtemp(prefix="ej-"))
    made = Journald(base)
    try:
        made.start()
        yield made
    finally:
        made.kill()
        shutil.rmtree(base)


@pytest.fixture
async def agent(agent: AgentProcess, journald: Journald) -> AgentProcess:
    agent.forward_to(f"journal://{journald.socket}")
    agent.start()
    await until(agent.fine, "core and engine")
    return agent


async def test_the_published_fields_and_every_kind_of_line(
    agent: AgentProcess, journald: Journald, workloads: Workloads
) -> None:
    script = r"echo plain; echo oops >&2; printf '\000\377\033[1m=x\n'; seq 1 40000 | tr '\n' ' '; echo; echo last"
    id = workloads.run("sh", "-c", f"{script}; sleep 1000", app="my_app", labels={"eru.coreid": "c1"})
    await until(lambda: journald.texts(id)[-1:] == ["last"], "the last line in the journal")
    entries = journald.entries(id)
    printed = next(entry for entry in entries if entry["TYPE"] == "stdout")
    first = {key: value for key, value in printed.items() if not key.startswith("_")}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?", first.pop("DATE_TIME"))
    assert re.fullmatch(r"\w{6}", first.pop("IDENT"))
    assert json.loads(first.pop("EXTRA")) == {"podname": POD, "nodename": NODE, "coreid": "c1", "networks_none": ""}
    assert first == {
        "MESSAGE": "message plain",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "my_app",
        "ID": id,
        "TYPE": "stdout",
        "ENTRY_POINT": "web",
    }
    assert [entry["MESSAGE"] for entry in entries if entry["TYPE"] == "stderr"] == ["message oops"]
    texts = [text for entry, text in zip(entries, journald.texts(id), strict=True) if entry["TYPE"] == "stdout"]
    assert texts[0] == "plain"
    assert texts[1].endswith("=x")
    assert "\\xff" in texts[1]
    assert "".join(texts[2:-1]).split() == [str(number) for number in range(1, 40_001)], "a line of several datagrams"


async def test_a_journal_that_is_killed_is_served_from_the_spool(
    agent: AgentProcess, journald: Journald, workloads: Workloads, tmp_path: Path
) -> None:
    printer = Printer(workloads, tmp_path, burst=20)
    id = printer.id
    await until(lambda: len(journald.texts(id)) > 500, "lines in the journal")
    journald.kill()
    await until(lambda: "log receiver" in agent.said(), "the agent says so")
    await asyncio.to_thread(journald.start)
    printer.end()
    await until(lambda: printer.printed(journald.texts(id)), "the last line")
    got = journald.texts(id)
    lost = set(range(printer.printed(got))) - set(printer.numbers(got))
    assert len(lost) <= QUEUE, "only what waited in the dead journal's socket may be missing"
    assert len(got) == len(set(got)), "nothing comes twice"
    metrics = (await agent.get("/metrics")).decode()
    assert re.search(r"eru_agent_forward_spooled_total\{[^}]*\} [1-9]", metrics)
    assert re.search(r"eru_agent_forward_dropped_total\{[^}]*\} 0", metrics)


@pytest.mark.parametrize("name", ["eru-agent.service", "eru-core.service"])
def test_systemd_understands_the_units(name: str, tmp_path: Path) -> None:
    """Every key of them; the programs themselves are not installed here."""
    text = (ROOT / "packaging" / name).read_text()
    unit = tmp_path / name
    unit.write_text(re.sub(r"(?m)^ExecStart=/usr/bin/eru-(core|agent)", "ExecStart=/bin/true", text))
    assert unit.read_text() != text
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
