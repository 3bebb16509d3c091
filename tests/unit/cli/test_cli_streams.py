"""Logs, exec, lambda, and the habits of the published command line."""

from __future__ import annotations

import sys

import pytest

from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
from support.cli_samples import ONE, OTHER, TWO, WORKLOAD, asked, bag
from support.scripted_core import Fails

# -- streams


def test_logs_go_where_they_came_from(eru, script):
    script.answers["LogStream"] = [
        pb.LogStreamMessage(id=ONE, data=b"out\n"),
        pb.LogStreamMessage(id=ONE, data=b"err\n", std_stream_type=pb.STDERR),
    ]
    done = eru("workload", "logs", ONE, "--tail", "5", "-f")
    assert (done.code, done.out, done.err) == (0, "out\n", "err\n")
    assert asked(script.requests("LogStream")[0]) == {"id": ONE, "tail": "5", "follow": True}
    script.answers["LogStream"] = [pb.LogStreamMessage(id=ONE, error="no such container")]
    assert eru("workload", "logs", ONE).code == 1


def test_logs_of_an_app_on_both_kinds_of_core(eru, script):
    script.answers |= {"ListWorkloads": [WORKLOAD, OTHER], "LogStream": [pb.LogStreamMessage(data=b"x\n")]}
    done = eru("workload", "logs", "app/web")
    assert sorted(done.out.splitlines()) == ["app_web_abcdef | x", "app_web_ghijkl | x"]
    script.answers["Logs"] = [v1.LogLine(id=ONE, name="app_web_abcdef", data=b"one\ntwo")]
    assert eru("workload", "logs", "app/web").out == "app_web_abcdef | one\napp_web_abcdef | two\n"
    assert (script.requests("Logs")[0].appname, script.requests("Logs")[0].entrypoint) == ("app", "web")


def test_followed_logs_survive_a_core_restart(eru, script):
    calls = []

    def answer(requests):
        asked = next(requests)
        calls.append((asked.since, asked.tail))
        if len(calls) == 1:
            yield v1.LogLine(id=ONE, name="app_web_abcdef", data=b"one\n", time_ns=1_700_000_000_000_000_001)
        elif len(calls) == 3:
            yield v1.LogLine(id=TWO, name="app_web_ghijkl", data=b"two\n", time_ns=1_700_000_001_000_000_001)
            yield v1.LogLine(id=TWO, error="enough")
        elif len(calls) == 4:
            raise KeyError("the core is broken, not away")

    script.answers |= {"ListWorkloads": [WORKLOAD], "Logs": answer}
    done = eru("workload", "logs", "-f", "app", "--tail", "3")
    assert calls == [
        ("", "3"),
        ("1700000000.000000002", "all"),
        ("1700000000.000000002", "all"),
        ("1700000001.000000002", "all"),
    ]
    assert done.code == 1
    assert done.out == "app_web_abcdef | one\napp_web_ghijkl | two\n"
    assert "core went away" in done.err


def attached(*messages: tuple[int, bytes]) -> list[pb.AttachWorkloadMessage]:
    return [pb.AttachWorkloadMessage(workload_id=ONE, data=data, std_stream_type=kind) for kind, data in messages]


@pytest.mark.parametrize("words", [["--", "ls", "-x", "--", "-o"], ["ls", "-x", "--", "-o"]])
def test_exec_passes_the_words_and_the_code(eru, script, words):
    script.answers["ExecuteWorkload"] = attached((0, b"out\n"), (1, b"err\n"), (0, b"[exitcode] 7"))
    done = eru("workload", "exec", "-e", "A=b", "-w", "/x", ONE, *words)
    assert (done.code, done.out, done.err) == (7, "out\n", "err\n")
    assert asked(script.requests("ExecuteWorkload")[0]) == {
        "workload_id": ONE,
        "commands": ["ls", "-x", "--", "-o"],
        "envs": ["A=b"],
        "workdir": "/x",
    }


def test_exec_without_an_exit_code_is_an_error(eru, script):
    script.answers["ExecuteWorkload"] = attached((0, b"no such container\n"))
    assert eru("workload", "exec", ONE, "ls").code == 1
    assert eru("workload", "exec", ONE).code == 2


def test_exec_of_an_app_says_which(eru, script):
    script.answers |= {"ListWorkloads": [OTHER, WORKLOAD], "ExecuteWorkload": attached((0, b"[exitcode] 0"))}
    done = eru("workload", "exec", "app/web", "ls")
    assert "in app_web_abcdef on n1, one of 2" in done.err
    assert script.requests("ExecuteWorkload")[0].workload_id == ONE


def test_lambda(eru, script):
    script.answers["RunAndWait"] = attached((6, b""), (0, b"hi\n"), (0, b"[exitcode] 0"), (0, b"[exitcode] 3"))
    done = eru("lambda", "--pod", "p", "--name", "job", "--count", "2", "--volume", "/a:/b", "--", "sh", "-c", "exit 3")
    assert (done.code, done.out) == (3, "hi\n")
    first = script.requests("RunAndWait")[0].deploy_options
    assert (first.name, first.entrypoint.name, list(first.entrypoint.commands)) == (
        "lambda",
        "job",
        ["sh", "-c", "exit 3"],
    )
    assert bag(first)["storage"]["volumes-limit"] == ["/a:/b"]
    assert script.requests("RunAndWait")[1].cmd == b"\n"
    script.answers["RunAndWait"] = attached((6, b""))
    assert eru("lambda", "--pod", "p", "--async", "x").out == f"{ONE}\n"
    script.answers["RunAndWait"] = attached((-1, b"Create workload failed"), (6, b""))
    assert eru("lambda", "--pod", "p", "x").code == 1


def test_lambda_with_piped_input_asks_for_no_terminal(eru, script, tmp_path):
    script.answers["RunAndWait"] = attached((6, b""), (0, b"[exitcode] 0"))
    (tmp_path / "in").write_bytes(b"data")
    before = sys.stdin
    try:
        with (tmp_path / "in").open() as sys.stdin:
            assert eru("lambda", "--pod", "p", "--stdin", "--", "cat").code == 0
    finally:
        sys.stdin = before
    assert ("eru-tty", "0") in script.metadata("RunAndWait")
    assert b"".join(each.cmd for each in script.requests("RunAndWait")[1:]) == b"data"


# -- published habits


def test_flags_before_after_and_in_go_style(eru, script):
    script.answers["SetWorkloadsStatus"] = pb.WorkloadsStatus()
    for words in (
        ["-running", "--healthy=true", ONE],
        [ONE, "--running", "--healthy"],
        ["--running=true", ONE, "-healthy"],
    ):
        assert eru("workload", "set-status", *words, published=True).code == 0
    eru("workload", "set-status", ONE, "--running=false")
    found = [(each.status[0].running, each.status[0].healthy) for each in script.requests("SetWorkloadsStatus")]
    assert found == [(True, True)] * 3 + [(False, False)]


def test_wrong_login_is_told(eru, script):
    script.answers["ListPods"] = Fails("invalid grpc password")
    done = eru("-u", "me", "-p", "secret", "pod", "list")
    assert done.code == 1
    assert "--password" in done.err
    assert "secret" not in done.err


def test_verbose_shows_calls(eru, script):
    script.answers["ListPods"] = pb.Pods()
    assert "· ListPods " in eru("-v", "pod", "list").err
    assert "· ListPods " in eru("-d", "pod", "list", published=True).err


def test_wait(eru, script):
    script.answers |= {
        "ListWorkloads": [WORKLOAD],
        "GetWorkloadsStatus": pb.WorkloadsStatus(status=[pb.WorkloadStatus(id=ONE, running=True)]),
    }
    assert eru("wait", "app", "--for", "running").code == 0
    assert eru("wait", "app", "--timeout", "0.1").code == 1
    script.answers["GetWorkloadsStatus"] = Fails("gone", "NotFound")
    assert "it is gone" in eru("wait", "app").err


def _broken():
    raise KeyError("the core is broken, not away")


def test_status_follows_changes(eru, script):
    status = pb.WorkloadStatus(id=ONE, running=True, healthy=True)
    events = [
        pb.WorkloadStatusStreamMessage(id=ONE, workload=WORKLOAD, status=status),
        pb.WorkloadStatusStreamMessage(id=ONE, workload=WORKLOAD, status=pb.WorkloadStatus(id=ONE, running=True)),
        pb.WorkloadStatusStreamMessage(id=ONE, workload=WORKLOAD, status=pb.WorkloadStatus(id=ONE)),
        pb.WorkloadStatusStreamMessage(id=TWO, error="no record"),
        pb.WorkloadStatusStreamMessage(id=ONE, error="gone", delete=True),
    ]
    turns = iter([events, events[:1]])

    def answer(requests):
        next(requests)
        yield from next(turns, None) or _broken()

    script.answers |= {"ListWorkloads": [WORKLOAD], "WorkloadStatusStream": answer}
    done = eru("status", "app", "--entry", "web")
    assert done.code == 1
    assert done.out.count("┌") == 3  # the first table, and one after each break
    assert "core went away, waiting for it" in done.err
    told = [line.split(" ", 1)[1] for line in done.out.splitlines() if line[2:3] == ":"]
    turns = iter([events])
    everything = [line.split(" ", 1)[1] for line in eru("status").out.splitlines() if line[2:3] == ":"]
    name = "app_web_abcdef (aaaaaaaaaaaa)"
    assert told == [
        f"{name} on n1 healthy 127.0.0.1:80,127.0.0.1:81",
        f"{name} on n1 unhealthy",
        f"{name} on n1 stopped",
        f"{name} removed",
        f"{name} on n1 healthy 127.0.0.1:80,127.0.0.1:81",
    ]
    assert everything == [*told[:3], "aaaaaaaaaaaa error: no record", told[3]]
    assert eru("-o", "jsonl", "status", "other").out == ""


def test_watching_nodes_and_cores(eru, script):
    script.answers |= {
        "NodeStatusStream": [
            pb.NodeStatusStreamMessage(nodename="n1", podname="p", alive=True),
            pb.NodeStatusStreamMessage(nodename="n1", podname="p"),
            pb.NodeStatusStreamMessage(nodename="n2", error="unknown"),
        ],
    }
    done = eru("node", "watch-status")
    assert done.out == "n1 of pod p is alive\nn1 of pod p is dead\n"
    assert "node n2: unknown" in done.err
    first = eru("-o", "json", "node", "watch-status").out.split("]")[0] + "]"
    assert first == '[\n  {\n    "nodename": "n1",\n    "podname": "p",\n    "alive": true\n  }\n]'


def test_watching_cores_goes_on_when_one_goes_away(eru, script):
    turns = iter([["b:1", "a:1"], ["a:1", "b:1"], ["b:1"]])

    def answer(request):
        yield pb.ServiceStatus(addresses=next(turns, None) or _broken())

    script.answers["WatchServiceStatus"] = answer
    done = eru("core", "watch")
    assert done.code == 1
    assert done.out == "0: a:1\n1: b:1\n0: b:1\n"  # an equal list is not shown again
    assert "core went away, looking for one" in done.err
