"""The life of workloads through the command line, on real Docker, with each store."""

from __future__ import annotations

import json

from support.user_cluster import Cluster, until


def test_a_workload_from_deploy_to_remove(cluster: Cluster) -> None:
    talks = ["sh", "-c", "trap 'exit 0' TERM; echo hello from $ERU_WORKLOAD_SEQ; while :; do sleep 1; done"]
    cluster.eru(*cluster.deploy_words("life", 3, commands=talks))
    assert cluster.agree()
    listed = cluster.json("workload", "list", "life")
    assert len(listed) == 3
    one = listed[0]
    assert json.loads(one["resources"])["cpumem"]["memory_request"] == 16 << 20
    until(lambda: all(each["status"].get("running") for each in cluster.json("workload", "list", "life")), "reports")
    assert cluster.json("workload", "get", one["id"][:12])[0]["name"] == one["name"]

    assert "hello from" in cluster.eru("workload", "logs", one["id"])
    assert cluster.eru("workload", "exec", one["name"], "--", "echo", "inside").strip() == "inside"
    assert cluster.command("workload", "exec", one["id"], "--", "sh", "-c", "exit 7").returncode == 7

    cluster.eru("workload", "stop", one["id"])
    assert one["id"] not in cluster.containers(running=True)
    until(lambda: not _status(cluster, one["id"]).get("running"), "the stop to be reported")
    cluster.eru("workload", "start", one["id"])
    assert one["id"] in cluster.containers(running=True)
    cluster.eru("workload", "restart", one["id"])
    assert one["id"] in cluster.containers(running=True)
    until(lambda: _status(cluster, one["id"]).get("running"), "the start to be reported")

    refused = cluster.command("workload", "remove", one["id"])
    assert refused.returncode != 0  # it runs, and nobody said --force
    assert cluster.agree()
    cluster.eru("workload", "remove", "--force", *(each["id"] for each in listed))
    assert cluster.containers() == {}
    assert cluster.recorded() == {}
    assert cluster.usage()["memory"] == 0


def test_a_node_that_is_down_takes_nothing(cluster: Cluster) -> None:
    cluster.eru("node", "down", cluster.node)
    refused = cluster.command(*cluster.deploy_words("waits", 1))
    assert refused.returncode == 5
    assert cluster.node in refused.stderr
    assert "taken out of scheduling by its operator" in refused.stderr
    assert cluster.containers() == {}
    cluster.eru("node", "up", cluster.node)
    cluster.eru(*cluster.deploy_words("waits", 1))
    assert cluster.agree()


def test_drift_is_shown_and_repaired(cluster: Cluster) -> None:
    """What a container takes is given back even when somebody else removed it."""
    import subprocess

    cluster.eru(*cluster.deploy_words("drift", 2))
    victim = next(iter(cluster.containers()))
    subprocess.run(["docker", "-H", cluster.engine, "rm", "-f", victim], capture_output=True, check=True)
    told = json.loads(cluster.eru("-o", "json", "node", "resource", cluster.node))
    assert any(victim[:12] in line or victim in line for line in told["diffs"])
    cluster.eru("workload", "remove", "--force", victim)
    assert cluster.agree()


def _status(cluster: Cluster, id: str) -> dict[str, object]:
    return dict(cluster.json("workload", "get", id)[0].get("status") or {})
