"""A cluster of one machine as a user has it: `eru up`, the command line, `eru down`; own ports, own names."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from support.ports import free_port

ERU = [sys.executable, "-m", "eru"]
WAIT_S = 90.0
POD = "eru"

SPEC = """
appname: {app}
entrypoints:
  main:
    commands: {commands}
"""


def until(true: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    """Ask again and again until it is true; a failure that says what never came."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return found


@dataclass
class Cluster:
    """Files below `state`; commands are given as a user types them."""

    state: Path
    engine: str
    etcd: str = ""
    bind: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    agent_bind: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")

    @property
    def node(self) -> str:
        return re.sub(r"[^A-Za-z0-9]", "", self.state.name)

    def command(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Any `eru` command; nothing may take longer than three minutes."""
        environ = {**os.environ, "ERU_STATE": str(self.state), "ERU": self.bind, "NO_COLOR": "1"}
        options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 180, "check": False}
        return subprocess.run([*ERU, *words], env=environ, **{**options, **more})

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A command that goes on while the test does something else."""
        environ = {**os.environ, "ERU_STATE": str(self.state), "ERU": self.bind}
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*ERU, *words], env=environ, stdin=quiet, stdout=quiet, stderr=quiet)

    def eru(self, *words: str) -> str:
        """The output of a command that must succeed."""
        done = self.command(*words)
        assert done.returncode == 0, f"eru {' '.join(words)}: code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.eru("-o", "json", *words) or "null") or []

    def up(self, *words: str) -> subprocess.CompletedProcess[str]:
        where = ["--bind", self.bind, "--agent-bind", self.agent_bind, "--engine", self.engine, "--node", self.node]
        etcd = ["--etcd", self.etcd] if self.etcd else []
        return self.command("up", *where, *etcd, *words)

    def down(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.command("down", *words)

    def core_pid(self) -> int:
        return int((self.state / "core.pid").read_text())

    def kill_core(self) -> None:
        """As a machine's memory killer would."""
        pid = self.core_pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: _ended(pid), "the core's end")

    def identifier(self) -> str:
        return str(yaml.safe_load((self.state / "core.yaml").read_text())["identifier"])

    def containers(self, running: bool = False) -> dict[str, str]:
        """What Docker has of this cluster: id -> name."""
        command = ["docker", "-H", self.engine, "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"]
        command += ["--filter", f"label=eru.coreid={self.identifier()}", *([] if running else ["--all"])]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return dict(line.split() for line in out.splitlines())

    def recorded(self) -> dict[str, str]:
        """What the store has: id -> name."""
        return {each["id"]: each["name"] for each in self.json("workload", "list")}

    def usage(self) -> dict[str, Any]:
        found = json.loads(self.eru("-o", "json", "node", "get", self.node))
        return dict(json.loads(found["resource_usage"])["cpumem"])

    def diffs(self) -> list[str]:
        found = json.loads(self.eru("-o", "json", "node", "resource", self.node))
        return list(found.get("diffs") or [])

    def spec(self, app: str, commands: list[str] | None = None, **entry: Any) -> str:
        """Path of a spec file."""
        path = self.state / f"{app}.yaml"
        text = yaml.safe_load(SPEC.format(app=app, commands=json.dumps(commands or ["sleep", "100000"])))
        text["entrypoints"]["main"].update(entry)
        path.write_text(yaml.safe_dump(text))
        return str(path)

    def deploy_words(self, app: str, count: int, *more: str, **entry: Any) -> list[str]:
        where = ["--pod", POD, "--entry", "main", "--image", "bb", "--network", "none", "--cpu", "0", "--memory", "16M"]
        return ["workload", "deploy", *where, "--count", str(count), *more, self.spec(app, **entry)]

    def agree(self) -> bool:
        """Docker and the store have the same workloads, and the books say so too."""
        recorded = self.recorded()
        if self.containers() != recorded or self.diffs():
            return False
        return int(self.usage()["memory"]) == len(recorded) * (16 << 20)


def _ended(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
