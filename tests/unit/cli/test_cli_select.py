"""Selectors, the question before many workloads are changed, and plans of what would be done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eru.wire import core_pb2 as pb
from support.cli_samples import ID, ONE, OTHER, TWO, WORKLOAD

THREE = ID + "3"
JOB = pb.Workload(id=THREE, name="app_job_mnopqr", podname="pod1", nodename="n2")


def listed(requests: Iterator[Any]) -> Iterator[pb.Workload]:
    asked = next(requests)
    yield from (each for each in (WORKLOAD, OTHER, JOB) if asked.appname in ("", each.name.split("_")[0]))


def on_node(requests: Iterator[Any]) -> Iterator[pb.Workloads]:
    node = next(requests).nodename
    yield pb.Workloads(workloads=[each for each in (WORKLOAD, OTHER, JOB) if each.nodename == node])


@pytest.fixture
def cluster(script):
    script.answers |= {
        "ListWorkloads": listed,
        "ListNodeWorkloads": on_node,
        "GetNode": pb.Node(name="n1"),
        "ControlWorkload": [pb.ControlWorkloadMessage(id=each) for each in (ONE, TWO, THREE)],
        "RemoveWorkload": [pb.RemoveWorkloadMessage(id=each, success=True) for each in (ONE, TWO, THREE)],
        "GetWorkloads": pb.Workloads(workloads=[WORKLOAD, OTHER]),
    }
    return script


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--app", "app"], [THREE, ONE, TWO]),
        (["--app", "app", "--entry", "web"], [ONE, TWO]),
        (["--entry", "job"], [THREE]),
        (["--node", "n2"], [THREE, TWO]),
        (["--node", "n2", "--node", "n1", "--entry", "web"], [ONE, TWO]),
        (["app_web_abcdef", "--entry", "job"], [ONE, THREE]),
    ],
)
def test_what_selectors_pick(eru, cluster, words: list[str], wanted: list[str]):
    eru("workload", "stop", *words, "--yes")
    assert [list(each.IDs) for each in cluster.requests("ControlWorkload")] == [wanted]


def test_labels_are_for_core_to_match(eru, script):
    script.answers |= {"ListWorkloads": [OTHER], "ControlWorkload": [pb.ControlWorkloadMessage(id=TWO)]}
    assert eru("workload", "start", "--label", "tier=front").code == 0
    assert dict(script.requests("ListWorkloads")[0].labels) == {"tier": "front"}


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "suspend", "resume", "remove", "dissociate"])
def test_many_are_not_touched_without_a_yes(eru, cluster, verb: str):
    refused = eru("workload", verb, "--app", "app")
    assert refused.code == 2
    assert f"refusing to {verb} 3 workloads of app app" in refused.err
    assert refused.err.count("why: app_") == 3
    assert eru("workload", verb, "--app", "app", "--dry-run").code == 0
    assert not any(name in ("ControlWorkload", "RemoveWorkload", "DissociateWorkload") for name, _ in cluster.asked)


def test_one_workload_needs_no_yes(eru, cluster):
    cluster.answers["ControlWorkload"] = [pb.ControlWorkloadMessage(id=THREE)]
    assert eru("workload", "stop", "--app", "app", "--entry", "job").code == 0


def test_a_dry_run_says_what_would_be_given_back(eru, cluster):
    told = eru("workload", "remove", ONE, TWO, "--dry-run")
    assert "app_web_abcdef" in told.out
    assert "2 workloads would be removed and give back 1 cores; nothing was changed" in told.err
    assert "1 workload runs; without --force only what stands is removed" in told.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--app", "ap"], "there is no app 'ap'\n  hint: did you mean app?"),
        (["--app", "app", "--entry", "wed"], "no workload has the entrypoint 'wed'\n  hint: did you mean web?"),
        (["--app", "app", "--entry", "job", "--node", "n1"], "no workload fits app app, entrypoint job, node n1"),
    ],
)
def test_what_fits_nothing_is_not_found(eru, cluster, words: list[str], told: str):
    done = eru("workload", "get", *words)
    assert (done.code, told in done.err) == (4, True)


def test_an_ambiguous_app_name_names_the_selector(eru, cluster):
    assert "--app app means all of them" in eru("workload", "stop", "app").err


def test_published_dissociate_of_a_node_does_not_ask(eru, cluster):
    cluster.answers["DissociateWorkload"] = [pb.DissociateWorkloadMessage(id=each) for each in (TWO, THREE)]
    assert eru("workload", "dissociate", "--node", "n2", published=True).code == 0
    assert eru("workload", "dissociate", "--node", "n2").code == 2
