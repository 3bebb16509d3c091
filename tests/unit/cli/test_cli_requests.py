"""What each command asks of core, and what it makes of the answers; scripts depend on both."""

from __future__ import annotations

import json

import pytest
import yaml

from eru.cli.node.change import _default_endpoint
from eru.cli.settings import Settings
from eru.wire import core_pb2 as pb
from support.cli_samples import NODE, ONE, OTHER, TWO, WORKLOAD, asked, bag
from support.scripted_core import Fails

# -- pods and nodes


def test_pod_list(eru, script):
    script.answers["ListPods"] = pb.Pods(pods=[pb.Pod(name="b", desc="two"), pb.Pod(name="a")])
    assert eru("pod", "list").out == (
        "┌──────┬─────────────┐\n"
        "│ NAME │ DESCRIPTION │\n"
        "├──────┼─────────────┤\n"
        "│ a    │             │\n"
        "│ b    │ two         │\n"
        "└──────┴─────────────┘\n"
    )
    assert eru("-o", "yaml", "pod", "list").out == "- name: a\n- desc: two\n  name: b\n\n"
    assert eru("pod", "list", "-o", "name").out == "a\nb\n"
    assert eru("pod", "list", "--output=jsonl").out == '{"name":"a"}\n{"name":"b","desc":"two"}\n'
    script.answers["ListPods"] = pb.Pods()
    assert eru("-o", "json", "pod", "list").out == "null\n"


def test_node_get_table_is_the_published_one(eru, script):
    script.answers["GetNode"] = NODE
    assert eru("node", "get", "n1").out == (
        "┌──────┬──────────────────────┬────────────────┬─────────────────┬──────┐\n"
        "│ NAME │ ENDPOINT             │ STATUS         │ CPUMEM          │ INFO │\n"
        "├──────┼──────────────────────┼────────────────┼─────────────────┼──────┤\n"
        "│ n1   │ tcp://127.0.0.1:2376 │ UP             │ Capacity:       │      │\n"
        "│      │                      │ bypass false   │                 │      │\n"
        "│      │                      │ available true │                 │      │\n"
        "│      │                      │ test false     │                 │      │\n"
        "│      │                      │                │ cpu: 4          │      │\n"
        "│      │                      │                │ cpu_map[0]: 100 │      │\n"
        "│      │                      │                │ ------------    │      │\n"
        "│      │                      │                │ Usage:          │      │\n"
        "│      │                      │                │ cpu: 1.5        │      │\n"
        "│      │                      │                │ cpu_map[0]: 50  │      │\n"
        "└──────┴──────────────────────┴────────────────┴─────────────────┴──────┘\n"
    )


def test_pod_nodes_are_one_table_and_concatenated_documents(eru, script):
    script.answers["ListPodNodes"] = [pb.Node(name="n2"), pb.Node(name="n1")]
    done = eru("pod", "nodes", "p", "--label", "a=b", "--timeout", "3")
    assert done.out.count("┌") == 1
    documents = '{\n  "name": "n1"\n}\n{\n  "name": "n2"\n}\n'  # for the drop-in, as the published program
    assert eru("-o", "json", "node", "list", "p", published=True).out == documents
    for words in (["node", "list", "p"], ["pod", "nodes", "p"]):
        assert json.loads(eru("-o", "json", *words).out) == [{"name": "n1"}, {"name": "n2"}]
        assert yaml.safe_load(eru("-o", "yaml", *words).out) == [{"name": "n1"}, {"name": "n2"}]
    assert asked(script.requests("ListPodNodes")[0]) == {
        "podname": "p",
        "all": True,
        "labels": {"a": "b"},
        "timeout_in_second": 3,
        "skip_info": True,
    }


def test_down_nodes_are_all_less_those_that_are_up(eru, script):
    def answer(requests):
        request = next(requests)
        yield from [pb.Node(name="n1"), pb.Node(name="n2")] if request.all else [pb.Node(name="n2")]

    script.answers["ListPodNodes"] = answer
    assert eru("pod", "nodes", "--filter", "DOWN", "-o", "name").out == "n1\n"
    assert eru("pod", "nodes", "--filter", "dwn").code == 2


def test_node_add_sends_only_what_was_given(eru, script, tmp_path):
    script.answers["AddNode"] = NODE
    (tmp_path / "ca").write_text("CA")
    options = ["--nodename", "n1", "--endpoint", "tcp://1.2.3.4:2376", "--ca", str(tmp_path / "ca"), "--cpu", "4"]
    done = eru("node", "add", "p", *options, "--share", "50", "--memory", "8G", "--label", "z=a", "--test")
    assert done.code == 0
    request = script.requests("AddNode")[0]
    assert asked(request) == {
        "nodename": "n1",
        "endpoint": "tcp://1.2.3.4:2376",
        "podname": "p",
        "ca": "CA",
        "labels": {"z": "a"},
        "test": True,
    }
    assert bag(request) == {"cpumem": {"cpu": 4, "share": "50", "memory": "8G"}, "storage": {}}


def test_node_up_and_down(eru, script):
    script.answers |= {"SetNode": NODE, "GetNode": NODE, "GetNodeResource": Fails("engine away", "EngineUnreachable")}
    assert eru("node", "down", "n1").code == 0
    assert eru("node", "up", "n1").code == 0
    assert eru("node", "down", "n1", "--check").code == 0
    assert [asked(each) for each in script.requests("SetNode")] == [
        {"nodename": "n1", "bypass": "TRUE"},
        {"nodename": "n1", "bypass": "FALSE"},
        {"nodename": "n1", "bypass": "TRUE"},
    ]
    script.answers["GetNodeResource"] = pb.NodeResource(name="n1")
    assert "answers, so it is left" in eru("node", "down", "n1", "--check").err
    assert len(script.requests("SetNode")) == 3


@pytest.mark.parametrize("cpu", ["abc", "0:x", "1,2", "--"])
def test_node_set_refuses_cpu_that_a_published_core_does_not_survive(eru, script, cpu: str):
    assert eru("node", "set", "n1", f"--cpu={cpu}").code == 2
    assert script.asked == []


def test_capacity_sends_the_keys_that_core_reads(eru, script):
    script.answers["CalculateCapacity"] = pb.CapacityMessage(total=5, node_capacities={"n2": 2, "n1": 2, "n3": 1})
    done = eru("pod", "capacity", "p", "-c", "0.5", "--mem", "1G", "-s", "0", "-n", "n1", "--cpu-bind")
    assert done.out.startswith("Total: 5\n")
    assert [line.split()[1] for line in done.out.splitlines()[4:7]] == ["n1", "n2", "n3"]
    request = script.requests("CalculateCapacity")[0]
    assert bag(request)["cpumem"] == {
        "cpu-request": 0.5,
        "cpu-limit": 0.5,
        "memory-request": 1 << 30,
        "memory-limit": 1 << 30,
        "cpu-bind": True,
    }
    assert (request.deploy_strategy, list(request.node_filter.includes)) == (pb.DeployOptions.DUMMY, ["n1"])
    out = eru("pod", "capacity", "p", "-c", "1", "-m", "1G", "-s", "0", "-o", "json").out
    assert json.loads(out) == {
        "total": 5,
        "nodes": [{"name": "n1", "capacity": 2}, {"name": "n2", "capacity": 2}, {"name": "n3", "capacity": 1}],
    }


def test_unknown_names_are_compared_with_what_there_is(eru, script):
    script.answers["GetNode"] = Fails("key: /node/wbe1: bad `Count` value, entity count invalid", number=1034)
    script.answers["ListPodNodes"] = [pb.Node(name="web1"), pb.Node(name="db1")]
    done = eru("node", "get", "wbe1")
    assert done.code == 4
    assert done.err.splitlines()[0] == "error: there is no node 'wbe1'"
    assert done.err.splitlines()[-1] == "  hint: did you mean web1?"


# -- reading


def test_workload_table_is_the_published_one(eru, script):
    script.answers["GetWorkloads"] = pb.Workloads(workloads=[WORKLOAD])
    width = 64
    lines = eru("workload", "get", ONE).out.splitlines()
    assert lines[1] == f"│ {'NAME/ID/POD/NODE/PRIVILEDGED':<{width}} │ NETWORKS           │ CPUMEM         │"
    assert lines[3] == f"│ {'app_web_abcdef':<{width}} │ host: 127.0.0.1:80 │ cpu_request: 1 │"
    assert lines[4] == f"│ {ONE:<{width}} │       127.0.0.1:81 │                │"
    assert lines[7] == f"│ {'Priviledged: false':<{width}} │                    │                │"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], [ONE, TWO]),
        (["--pod", "pod1"], [ONE]),
        (["--pod", "pod2"], [TWO]),
        (["--match-ip", "127.0.0.1"], [ONE]),
        (["--skip-ip", "127.0.0.1"], [TWO]),
        (["--node", "n2"], [TWO]),
        (["--limit", "1"], [ONE]),
        (["app", "--entry", "job"], []),
    ],
)
def test_list_filters(eru, script, options, found):
    script.answers["ListWorkloads"] = [OTHER, WORKLOAD]
    done = eru("workload", "list", *options, "-o", "name")
    assert done.out.split() == found


def test_empty_list(eru, script):
    script.answers["ListWorkloads"] = []
    assert eru("workload", "list").out == ""
    assert eru("workload", "list", "-o", "json").out == "[]\n"
    statistics = eru("workload", "list", "--statistics").out.splitlines()
    assert statistics[3] == "│ 0.000000 │ 0      │ 0       │"


def test_ids_may_be_names_and_prefixes(eru, script):
    script.answers |= {"ListWorkloads": [WORKLOAD, OTHER], "GetWorkloads": pb.Workloads(workloads=[WORKLOAD])}
    for word in ("app_web_abcdef", "app_web_abc", ONE):
        assert eru("workload", "get", word).code == 0
    assert {tuple(each.IDs) for each in script.requests("GetWorkloads")} == {(ONE,)}
    done = eru("workload", "get", "aaa")
    assert done.code == 2
    assert "fits 2 workloads" in done.err
    assert "app_web_abcdef on n1" in done.err
    done = eru("workload", "get", "ap_web")
    assert done.code == 4
    assert len(script.requests("GetWorkloads")) == 3


def test_status_judges(eru, script):
    good = pb.WorkloadStatus(id=ONE, running=True, healthy=True)
    script.answers |= {"ListWorkloads": [WORKLOAD, OTHER], "GetWorkloadsStatus": pb.WorkloadsStatus(status=[good])}
    assert eru("workload", "status", "app_web_abcdef").code == 0
    script.answers["GetWorkloadsStatus"] = pb.WorkloadsStatus(status=[good, pb.WorkloadStatus()])
    done = eru("workload", "status", "app/web")
    assert done.code == 1
    assert "never reported" in done.err


def test_extension_that_is_not_an_object_is_still_shown(eru, script):
    status = pb.WorkloadStatus(id=ONE, extension=b"plain words")
    script.answers["GetWorkloadsStatus"] = pb.WorkloadsStatus(status=[status])
    assert "plain words" in eru("workload", "get-status", ONE).out


def test_snapshot_of_status(eru, script):
    script.answers["ListWorkloads"] = [WORKLOAD, OTHER]
    lines = eru("status", "--once").out.splitlines()
    assert lines[3].split("│")[4].strip() == "healthy"
    assert lines[4].split("│")[4].strip() == "unreported"


@pytest.mark.parametrize("core", ["10.0.0.9:5001", "core.example:5001", "127.0.0.1:1,10.0.0.9:5001"])
def test_a_socket_of_this_machine_is_no_endpoint_for_a_core_elsewhere(core: str):
    assert _default_endpoint(Settings(eru=core), tls=False).startswith("tcp://")
    assert _default_endpoint(Settings(eru="127.0.0.1:5001", program="eru-cli"), tls=False).startswith("tcp://")


def test_an_empty_size_is_no_limit_and_a_variable_without_a_value_goes_as_it_is(eru, script, spec):
    script.answers["CreateWorkload"] = []
    line = ["workload", "deploy", "--pod", "p", "--entry", "web", "--image", "i", "--env", "A", "--memory", "", spec]
    assert eru(*line, published=True).code == 0
    (request,) = script.requests("CreateWorkload")
    assert list(request.env) == ["A"]
    assert (bag(request)["cpumem"]["memory-limit"], bag(request)["cpumem"]["memory-request"]) == (0, 0)
    assert eru(*line).code == 2
