"""`kill -9` of core in the middle of things, on real Docker, with each store: afterwards nothing is left over."""

from __future__ import annotations

import pytest

from support.user_cluster import Cluster, until

COUNT = 20
TRIES = 4


@pytest.mark.timeout(300)
@pytest.mark.parametrize("at", [1, 5])
def test_a_core_killed_during_a_deploy_leaves_nothing_behind(cluster: Cluster, at: int) -> None:
    """`at`: how many instances run when it strikes. A deploy that was over before is tried again."""
    for _ in range(TRIES):
        deploying = cluster.start(*cluster.deploy_words("crash", COUNT))
        until(lambda: len(cluster.containers(running=True)) >= at, f"{at} running containers")
        cluster.kill_core()
        interrupted = deploying.wait(90) != 0
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
    removing.wait(90)
    assert cluster.up().returncode == 0
    until(cluster.agree, "Docker, store and usage to agree after the crash")
