"""`kill -9` of core in the middle of things, on real Docker, with each store: afterwards nothing is left over."""

from __future__ import annotations

import pytest

from support.user_cluster import Cluster, until

COUNT = 20


@pytest.mark.parametrize("at", [1, 8])
def test_a_core_killed_during_a_deploy_leaves_nothing_behind(cluster: Cluster, at: int) -> None:
    deploying = cluster.start(*cluster.deploy_words("crash", COUNT))
    until(lambda: len(cluster.containers(running=True)) >= at, f"{at} running containers")
    cluster.kill_core()
    deploying.wait(90)
    assert len(cluster.containers(running=True)) < COUNT, "the deploy was over before the core was killed"
    again = cluster.up()
    assert again.returncode == 0, again.stderr
    until(cluster.agree, "Docker, store and usage to agree after the crash")
    recorded = cluster.recorded()
    if recorded:
        cluster.eru("workload", "remove", "--force", *recorded)
    assert cluster.containers() == {}
    assert cluster.agree()


def test_a_core_killed_during_a_removal_finishes_it(cluster: Cluster) -> None:
    cluster.eru(*cluster.deploy_words("gone", 10))
    removing = cluster.start("workload", "remove", "--force", *cluster.recorded())
    until(lambda: len(cluster.containers()) < 10, "the first container to go")
    cluster.kill_core()
    removing.wait(90)
    assert cluster.up().returncode == 0
    until(cluster.agree, "Docker, store and usage to agree after the crash")
