"""A machine that hangs is dead to the cluster, its workloads are told as down, and its return puts that right."""

from __future__ import annotations

import os
import signal

import yaml

from support.user_cluster import Cluster, _ended, until


def test_an_agent_that_hangs_and_goes_on(blank: Cluster) -> None:
    assert blank.up().returncode == 0
    agent = int((blank.state / "agent.pid").read_text())
    os.kill(agent, signal.SIGKILL)
    until(lambda: _ended(agent), "the agent's end")
    path = blank.state / "agent.yaml"
    told = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**told, "heartbeat_interval": 1}))
    again = blank.up()
    assert again.returncode == 0, again.stderr
    assert yaml.safe_load(path.read_text())["heartbeat_interval"] == 1
    blank.eru(*blank.deploy_words("mortal", 3))

    def running() -> list[bool]:
        found = blank.json("workload", "list")
        return sorted(each.get("status", {}).get("running", False) for each in found)

    until(lambda: running() == [True] * 3, "all told as running")
    agent = int((blank.state / "agent.pid").read_text())
    os.kill(agent, signal.SIGSTOP)
    try:
        until(lambda: running() == [False] * 3, "all told as down")
        assert len(blank.containers(running=True)) == 3, "the workloads themselves go on"
    finally:
        os.kill(agent, signal.SIGCONT)
    until(lambda: running() == [True] * 3, "all told as running again")
