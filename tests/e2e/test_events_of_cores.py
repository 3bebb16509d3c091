"""What the command line tells of a cluster with several cores, each of which knows only what it saw itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.core_processes import CoreProcess
from support.ports import free_port

SPEC = "appname: shop\nentrypoints:\n  web:\n    commands: [sleep, '1000']\n"


@pytest.fixture
def cores(etcd_endpoint: str, tmp_path: Path) -> Iterator[list[CoreProcess]]:
    """Two cores over one etcd."""
    cluster = f"events{time.time_ns()}"
    store = {"machines": [etcd_endpoint], "prefix": f"/{cluster}"}
    running = []
    for number in range(2):
        profile = f"127.0.0.1:{free_port()}"
        patience = {"service_heartbeat_interval": "60s"}  # one that was killed is announced until the test is over
        settings = {"store": "etcd", "etcd": store, "identifier": cluster, "profile": profile, "grpc": patience}
        running.append(CoreProcess(tmp_path, f"core{number}", settings))
        running[-1].start(wait=False)
    for core in running:
        core.wait_until_serving()
    yield running
    for core in running:
        core.close()


def eru(core: CoreProcess, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "eru", *words],
        env={"ERU": core.address, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def told(core: CoreProcess, *words: str) -> list[tuple[str, str]]:
    """(what, who) in order."""
    lines = eru(core, "-o", "jsonl", "events", *words).stdout.splitlines()
    return [(event["kind"], event.get("name", "")) for event in map(json.loads, lines)]


def test_one_history_of_two_cores_and_the_gap_when_one_is_gone(cores: list[CoreProcess], tmp_path: Path) -> None:
    one, two = cores
    spec = tmp_path / "web.yaml"
    spec.write_text(SPEC)
    eru(one, "pod", "add", "prod")
    eru(one, "node", "add", "prod", "--nodename", "n1", "--endpoint", "fake://n1?cpu=4", "--test")
    deploy = ["workload", "deploy", str(spec), "--pod", "prod", "--entry", "web", "--image", "shop:1", "-o", "name"]
    [first] = eru(one, *deploy).stdout.split()
    [second] = eru(two, *deploy).stdout.split()
    eru(one, "workload", "set-status", first, "--running", "--healthy")

    found = told(one, "shop")
    names = {name for _, name in found if name}
    assert len(names) == 2, found
    kinds = [kind for kind, _ in found]
    assert kinds.count("created") == kinds.count("recorded") == 2
    assert kinds.count("healthy") == 1, "every core saw the report, which happened once"
    assert kinds.index("planned") < kinds.index("created") < kinds.index("recorded")
    assert told(two, "shop") == found

    why = eru(one, "why", second).stdout  # told by the other core
    assert "by request" in why
    assert "nobody remembers" not in why

    two.kill()
    alone = eru(one, "events", "shop")
    assert f"without what core {two.address} saw" in alone.stderr  # it is announced until its lease ends
    assert alone.stdout.count("created") == 1
