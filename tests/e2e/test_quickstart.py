"""What `make quickstart` and `make down` do, step by step, on real Docker."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from support.user_cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
MEMORY_MIB_MAX = 300


def demo(cluster: Cluster) -> str:
    import os

    environ = {**os.environ, "ERU_STATE": str(cluster.state), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "eru.roots.demo"]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_newcomer_gets_a_cluster_with_a_real_app(blank: Cluster) -> None:
    first = blank.up()
    assert first.returncode == 0, first.stderr
    for step in ("core: started", "pod eru: added", f"node {blank.node}: added", "agent: started"):
        assert step in first.stdout
    said = demo(blank)
    assert "3 of 3 instances are healthy" in said
    pages = re.findall(r"GET (http://\S+)\s+200\s+Hello from instance (\d)", said)
    assert sorted(number for _, number in pages) == ["0", "1", "2"]
    for url, number in pages:
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert f"instance {number}" in answer.read().decode()
    together = re.search(r"together (\d+) MiB", said)
    assert together is not None
    assert int(together[1]) < MEMORY_MIB_MAX
    assert len(blank.containers(running=True)) == 3

    again = blank.up()
    assert again.returncode == 0, again.stderr
    assert "core: already running" in again.stdout
    assert "agent: already running" in again.stdout
    assert "3 instances of demo run already" in demo(blank)
    assert len(blank.containers()) == 3

    identifier = blank.identifier()
    gone = blank.down("--purge")
    assert gone.returncode == 0, gone.stderr
    assert not blank.state.exists()
    left = ["docker", "-H", blank.engine, "ps", "-aq", "--filter", f"label=eru.coreid={identifier}"]
    assert subprocess.run(left, capture_output=True, text=True, check=True).stdout == ""


def test_workloads_outlive_the_control_plane(blank: Cluster) -> None:
    assert blank.up().returncode == 0
    blank.eru(*blank.deploy_words("stays", 2))
    before = blank.containers(running=True)
    assert len(before) == 2
    stopped = blank.down()
    assert stopped.returncode == 0, stopped.stderr
    assert blank.containers(running=True) == before
    assert blank.up().returncode == 0
    assert blank.recorded() == before
    assert blank.agree()
