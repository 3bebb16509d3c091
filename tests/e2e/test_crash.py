"""`kill -9` of core in the middle of things, on real Docker, with each store: afterwards nothing is left over."""

from __future__ import annotations

import subprocess
import time

import pytest

from support.user_cluster import Cluster, until

COUNT = 20
TRIES = 4


@pytest.mark.timeout(600)
@pytest.mark.parametrize("at", [1, 5])
def test_a_core_killed_during_a_deploy_leaves_nothing_behind(cluster: Cluster, at: int) -> None:
    """`at`: how many instances run when it strikes. A deploy that was over before is tried again."""
    for _ in range(TRIES):
        deploying = cluster.start(*cluster.deploy_words("crash", COUNT))
        until(lambda: len(cluster.containers(running=True)) >= at, f"{at} running containers", 240)
        cluster.kill_core()
        interrupted = deploying.wait(180) != 0
        again = cluster.up()
        assert again.returncode == 0, again.stderr
        until(cluster.agree, "Docker, store and usage to agree after the crash")
        if recorded := cluster.recorded():
            cluster.eru("workload", "remove", "--force", *recorded)
        assert cluster.containers() == {}
        assert cluster.agree()
        if interrupted:
            return
    pytest.fail(f"the deploy was always over before the core was killed, {TRIES} times")


def test_a_core_killed_during_a_removal_finishes_it(cluster: Cluster) -> None:
    cluster.eru(*cluster.deploy_words("gone", 10))
    removing = cluster.start("workload", "remove", "--force", *cluster.recorded())
    until(lambda: len(cluster.containers()) < 10, "the first container to go")
    cluster.kill_core()
    removing.wait(180)
    assert cluster.up().returncode == 0
    until(cluster.agree, "Docker, store and usage to agree after the crash")


def test_a_restart_whose_core_is_killed_is_finished(cluster: Cluster) -> None:
    """`sleep` as the first process ignores SIGTERM, so that Docker's stop takes its ten seconds."""
    cluster.eru(*cluster.deploy_words("again", 1))
    [id] = cluster.recorded()

    def docker(*what: str) -> str:
        command = ["docker", "-H", cluster.engine, *what]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    begun = docker("inspect", "-f", "{{.State.StartedAt}}", id)
    since = int(time.time())
    restarting = cluster.start("workload", "restart", id)
    events = ("events", "--since", str(since), "--filter", f"container={id}", "--until")
    until(lambda: "container kill" in docker(*events, str(int(time.time()) + 1)), "the stop to begin")
    cluster.kill_core()
    restarting.wait(180)
    assert cluster.up().returncode == 0
    until(lambda: docker("inspect", "-f", "{{.State.StartedAt}}", id) != begun, "the start after the stop")
    assert docker("inspect", "-f", "{{.State.Running}}", id) == "true"
    until(cluster.agree, "Docker, store and usage to agree after the crash")
