"""`eru workload deploy`: the message, the result, the exit code."""

from __future__ import annotations

import json

import pytest

from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
from support.cli_samples import BAD, DEPLOY, GOOD, ONE, TWO, WORKLOAD, asked, bag, deployed
from support.scripted_core import Fails


def test_deploy_message_and_defaults(eru, script, spec, tmp_path):
    script.answers["CreateWorkload"] = [GOOD]
    (tmp_path / "f").write_bytes(b"x")
    done = eru(
        *("workload", "deploy", spec, *DEPLOY, "--node", "n1,n2", "--nodelabel", "z=a", "--count", "2"),
        *(
            "--network",
            "net=10.0.0.9",
            "--env",
            "A=b,c",
            "--file",
            f"{tmp_path}/f:/f:600:1:2",
            "--deploy-strategy",
            "fill",
        ),
        *("--nodes-limit", "3", "--raw-args", '{"a":1}', "--after-create", "ls", "--ignore-hook", "--debug"),
    )
    assert done.code == 0
    request = script.requests("CreateWorkload")[0]
    assert asked(request) == {
        "name": "app",
        "entrypoint": {"name": "web", "commands": ["sleep", "1"]},
        "podname": "p",
        "image": "img",
        "count": 2,
        "env": ["A=b,c"],
        "networks": {"net": "10.0.0.9"},
        "debug": True,
        "labels": {"a": "b"},
        "deploy_strategy": "FILL",
        "data": {"/f": "eA=="},
        "modes": {"/f": {"mode": "384"}},
        "owners": {"/f": {"uid": 1, "gid": 2}},
        "nodes_limit": 3,
        "ignore_hook": True,
        "after_create": ["ls"],
        "raw_args": "eyJhIjoxfQ==",
        "node_filter": {"includes": ["n1,n2"], "labels": {"z": "a"}},
    }
    assert bag(request) == {
        "cpumem": {"cpu-request": 0, "cpu-limit": 1, "memory-request": 0, "memory-limit": 512 << 20},
        "storage": {
            "storage-request": 0,
            "storage-limit": 0,
            "volumes-request": None,
            "volumes-limit": ["/a:/b"],
        },
    }


def test_the_user_is_left_to_the_image_except_for_the_published_name(eru, script, spec):
    script.answers["CreateWorkload"] = [GOOD]
    eru("workload", "deploy", *DEPLOY, spec)
    eru("workload", "deploy", *DEPLOY, spec, published=True)
    eru("workload", "deploy", *DEPLOY, "--user", "www", spec)
    assert [each.user for each in script.requests("CreateWorkload")] == ["", "root", "www"]


def test_default_network_is_host_and_empty_is_none(eru, script, spec):
    script.answers["CreateWorkload"] = [GOOD]
    eru("workload", "deploy", *DEPLOY, spec)
    eru("workload", "deploy", *DEPLOY, "--network", "", spec)
    assert [dict(each.networks) for each in script.requests("CreateWorkload")] == [{"host": ""}, {}]


@pytest.mark.parametrize(
    ("events", "code"),
    [
        (deployed(GOOD), 0),
        (deployed(GOOD, BAD), 1),
        (deployed(BAD), 1),
        (deployed(pb.CreateWorkloadMessage(error="cannot alloc a plan, not enough nodes capacity")), 5),
        (Fails("pod p has no room", "NoCapacity", 1074), 5),
        (Fails("image is empty", "InvalidInput", 1074), 2),
        (Fails("disk on fire", "EngineError", 1074), 1),
    ],
)
def test_exit_codes_of_deploy(eru, script, spec, events, code: int):
    script.answers |= {"Deploy": events, "ListPods": pb.Pods(pods=[pb.Pod(name="p")])}
    assert eru("workload", "deploy", *DEPLOY, spec).code == code


def test_deploy_output(eru, script, spec):
    script.answers["Deploy"] = deployed(GOOD, BAD)
    done = eru("workload", "deploy", *DEPLOY, spec)
    assert done.out.splitlines()[3] == "│ app_web_abcdef │ aaaaaaaaaaaa │ n1   │ 1.2.3.4:80 │"
    assert done.err.splitlines()[:2] == ["✓ app_web_abcdef on n1  1.2.3.4:80", "✗ instance on n2: no such image"]
    assert eru("-o", "name", "workload", "deploy", *DEPLOY, spec).out == f"{ONE}\n"
    documents = json.loads(eru("workload", "deploy", *DEPLOY, spec, "-o", "json", "-q").out)
    assert [each.get("success") for each in documents] == [True, None]
    quiet = eru("workload", "deploy", *DEPLOY, spec, "-q")
    assert quiet.err == "✗ instance on n2: no such image\n"


def test_a_core_that_is_lost_half_way(eru, script, spec):
    def answer(requests):
        next(requests)
        yield from deployed(GOOD)
        raise RuntimeError("lost")

    script.answers["Deploy"] = answer
    done = eru("workload", "deploy", *DEPLOY, "--count", "2", spec)
    assert (done.code, "app_web_abcdef" in done.out) == (1, True)
    assert "the rest is not known" in done.err


def test_no_room_is_explained_per_node(eru, script, spec):
    refusal = v1.Refusal(nodename="n1", reason="resource", dimension="cpumem.memory", wanted=512 << 20, free=40 << 20)
    event = v1.DeployEvent(instance=pb.CreateWorkloadMessage(error="not enough"), refusals=[refusal])
    script.answers |= {"Deploy": [event], "ListPods": pb.Pods(pods=[pb.Pod(name="p")])}
    done = eru("workload", "deploy", *DEPLOY, spec)
    assert done.code == 5
    assert "  why: node n1: cpumem.memory is short: 512M wanted, 40M free" in done.err
    assert "hint: `eru pod resource p`" in done.err


def test_deploy_to_an_unknown_pod(eru, script, spec):
    script.answers |= {"Deploy": Fails("node map is empty"), "ListPods": pb.Pods(pods=[pb.Pod(name="prod")])}
    done = eru("workload", "deploy", spec, "--pod", "prd", "--entry", "web", "--image", "i")
    assert (done.code, done.err.splitlines()[-1]) == (4, "  hint: did you mean prod?")


@pytest.mark.parametrize(
    "options",
    [
        ["--deploy-strategy", "FLIL"],
        ["--count", "0"],
        ["--memory", "1X"],
        ["--memory-limit=-1G"],
        ["--cpu=-1"],
        ["--raw-args", "{"],
        ["--env", "NOVALUE"],
        ["--network", "a=b=c"],
        ["--network", "a=nonsense"],
        ["--file", "nothing"],
        ["--extra-resources", "[]"],
        ["--timeout", "soon"],
        ["--deploy-strategy", "DUMMY"],
        ["--nodes-limit=-1"],
    ],
)
def test_wrong_options_never_reach_core(eru, script, spec, options):
    done = eru("workload", "deploy", *DEPLOY, *options, spec)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert script.asked == []


@pytest.mark.parametrize("missing", ["--pod", "--entry", "--image"])
def test_required_options(eru, spec, missing: str):
    options = [word for pair in zip(DEPLOY[::2], DEPLOY[1::2], strict=True) if pair[0] != missing for word in pair]
    done = eru("workload", "deploy", spec, *options)
    assert (done.code, done.err.splitlines()[0]) == (2, f"error: {missing} is missing")


def test_ours_only_options_on_a_published_core(eru, script, spec):
    script.answers["CreateWorkload"] = [GOOD]
    for option in (["--if-rev", "7"], ["--all-or-nothing"]):
        done = eru("workload", "deploy", *DEPLOY, *option, spec)
        assert done.code == 1
        assert option[0] in done.err
    assert script.requests("CreateWorkload") == []


def test_if_rev_and_all_or_nothing_reach_our_core(eru, script, spec):
    script.answers["Deploy"] = deployed(GOOD)
    assert eru("workload", "deploy", *DEPLOY, "--if-rev", "7", "--all-or-nothing", spec).code == 0
    request = script.requests("Deploy")[0]
    assert (request.if_revision, request.all_or_nothing) == (7, True)


def test_dry_run_with_placement(eru, script, spec):
    script.answers["Plan"] = v1.PlanReply(
        revision=42,
        placements=[
            v1.Placement(nodename="n2", resources="{}"),
            v1.Placement(nodename="n1", sequence=1, resources="{}"),
        ],
        refusals=[v1.Refusal(nodename="n3", reason="bypass")],
        nodes_considered=3,
    )
    done = eru("workload", "deploy", *DEPLOY, "--dry-run", spec)
    assert done.code == 0
    assert [line.split()[1] for line in done.out.splitlines()[3:6:2]] == ["n1", "n2"]
    assert "not used: node n3: taken out of scheduling" in done.err
    assert done.err.splitlines()[-1] == f"next: eru workload deploy {' '.join(DEPLOY)} --if-rev 42 {spec}"
    script.answers["Plan"] = v1.PlanReply(error="not enough memory", nodes_considered=3)
    assert eru("workload", "deploy", *DEPLOY, "--dry-run", spec).code == 5


def test_dry_run_on_a_published_core(eru, script, spec):
    script.answers["CalculateCapacity"] = pb.CapacityMessage(total=2, node_capacities={"n1": 2})
    done = eru("workload", "deploy", *DEPLOY, "--dry-run", spec)
    assert done.out.startswith("Total: 2\n")
    assert script.requests("CreateWorkload") == []


def test_wait_for_health(eru, script, spec):
    states = iter([pb.WorkloadStatus(), pb.WorkloadStatus(id=ONE, running=True)])

    def answer(requests):
        next(requests)
        yield pb.WorkloadsStatus(status=[next(states, pb.WorkloadStatus(id=ONE, running=True, healthy=True))])

    script.answers |= {"Deploy": deployed(GOOD), "GetWorkloadsStatus": answer}
    done = eru("workload", "deploy", *DEPLOY, "--wait", spec)
    assert done.code == 0
    assert "1 of 1 healthy after" in done.err
    script.answers["GetWorkloadsStatus"] = pb.WorkloadsStatus(status=[pb.WorkloadStatus(id=ONE, running=True)])
    done = eru("workload", "deploy", *DEPLOY, "--wait", "--timeout", "0.1", spec)
    assert done.code == 1
    assert "app_web_abcdef is not healthy within 0.1s: it runs, but its health check fails" in done.err


def test_auto_replace(eru, script, spec):
    script.answers |= {"ListWorkloads": [], "Deploy": deployed(GOOD)}
    assert eru("workload", "deploy", *DEPLOY, "--auto-replace", spec).code == 0
    replaced = pb.ReplaceWorkloadMessage(create=GOOD, remove=pb.RemoveWorkloadMessage(id=TWO, success=True))
    script.answers |= {
        "ListWorkloads": [WORKLOAD],
        "ReplaceWorkload": [replaced],
    }
    done = eru("workload", "deploy", *DEPLOY, "--auto-replace", "--network", "", spec)
    assert "✓ aaaaaaaaaaaa -> app_web_abcdef on n1" in done.err
    request = script.requests("ReplaceWorkload")[0]
    assert request.networkinherit
    assert bag(request.deployOpt)["cpumem"]["cpu-limit"] == 1


def test_a_cluster_that_is_filled_already_is_nothing_to_do(eru, script, spec):
    error = "cannot alloc a fill node plan, each node has enough workloads"
    script.answers["Deploy"] = deployed(pb.CreateWorkloadMessage(error=error))
    done = eru("workload", "deploy", *DEPLOY, "--deploy-strategy", "FILL", spec)
    assert done.code == 0
    assert "nothing to do" in done.err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(["--wait"], "healthy"), (["--wait", "healthy"], "healthy"), (["--wait=running"], "running"), ([], None)],
)
def test_wait_takes_a_word_or_none(eru, script, spec, words: list[str], wanted: str | None):
    status = pb.WorkloadStatus(id=ONE, running=True)
    script.answers |= {"Deploy": deployed(GOOD), "GetWorkloadsStatus": pb.WorkloadsStatus(status=[status])}
    done = eru("workload", "deploy", *words, spec, *DEPLOY, "--timeout", "0.1s")
    assert done.code == (1 if wanted == "healthy" else 0)
    assert len(script.requests("GetWorkloadsStatus")) >= (wanted is not None)


def test_a_failure_that_names_no_instance_is_not_told_as_lack_of_room(eru, script, spec):
    said = 'Error response from daemon: Get "https://registry-1.docker.io/v2/": no such host'
    script.answers["CreateWorkload"] = [pb.CreateWorkloadMessage(error=said)]
    done = eru("workload", "deploy", spec, *DEPLOY)
    assert (done.code, "no such host" in done.err, "pod resource" in done.err) == (1, True, False)
    script.answers["CreateWorkload"] = [pb.CreateWorkloadMessage(error="cannot alloc a plan, not enough resource")]
    done = eru("workload", "deploy", spec, *DEPLOY)
    assert (done.code, "pod resource" in done.err) == (5, True)
