"""`eru logs APP` and `eru exec APP`: all instances, and one of them."""

from __future__ import annotations

import pytest

from eru.cli.workload.logs import Printer
from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
from support.scripted_core import Fails, Script

ONE, TWO = "a" * 64, "b" * 64


def instance(id_: str, **status: bool) -> pb.Workload:
    reported = pb.WorkloadStatus(id=id_, **status) if status else None
    return pb.Workload(id=id_, name=f"shop_web_{id_[:6]}", nodename="n1", status=reported)


def line(id_: str, text: bytes, second: int, error_stream: bool = False) -> v1.LogLine:
    stream = pb.STDERR if error_stream else pb.STDOUT
    name = f"shop_web_{id_[:6]}"
    return v1.LogLine(id=id_, name=name, data=text, time_ns=second * 10**9 + 5_000_000, std_stream_type=stream)


@pytest.fixture(autouse=True)
def lines(script: Script) -> None:
    script.answers |= {
        "ListWorkloads": [instance(ONE, running=True), instance(TWO, running=True)],
        "Logs": [
            line(ONE, b"GET /\n", 1),
            line(TWO, b"error: no disk\n", 2, error_stream=True),
            line(ONE, b"GET /cart\n", 3),
        ],
    }


def test_all_instances_in_one_stream_with_names(script, eru):
    ran = eru("logs", "shop", "--since", "10m", "--until", "1m", "-n", "5")
    assert ran.out == "shop_web_aaaaaa | GET /\nshop_web_aaaaaa | GET /cart\n"
    assert ran.err == "shop_web_bbbbbb | error: no disk\n"
    [asked] = script.requests("Logs")
    assert (asked.appname, asked.since, asked.until, asked.tail) == ("shop", "10m", "1m", "5")


def test_only_lines_that_match(eru):
    ran = eru("logs", "shop", "--grep", "cart|disk", "--no-prefix")
    assert (ran.out, ran.err) == ("GET /cart\n", "error: no disk\n")
    assert "not a pattern" in eru("logs", "shop", "-g", "(").err


def test_with_the_time_of_each_line(eru):
    ran = eru("logs", ONE, "-t")
    assert ran.out.splitlines()[0] == "1970-01-01T00:00:01.005Z GET /"


def test_each_instance_keeps_its_colour():
    printer = Printer(True, colour=True)
    first, second, again = (printer.label(id_) for id_ in (ONE, TWO, ONE))
    assert first == again != second
    assert first.startswith(b"\x1b[36m")


@pytest.mark.parametrize("status", [{"running": True}, {}])
def test_exec_picks_an_instance_that_runs_and_says_which(script, eru, status):
    script.answers["ListWorkloads"] = [instance(ONE, running=False), instance(TWO, **status)]
    script.answers["ExecuteWorkload"] = [pb.AttachWorkloadMessage(workload_id=TWO, data=b"[exitcode] 0")]
    ran = eru("exec", "shop", "true")
    assert ran.code == 0
    assert ran.err == "in shop_web_bbbbbb on n1, one of 2\n"


def test_exec_prefers_a_healthy_one(script, eru):
    script.answers["ListWorkloads"] = [instance(ONE, running=True), instance(TWO, running=True, healthy=True)]
    script.answers["ExecuteWorkload"] = [pb.AttachWorkloadMessage(workload_id=TWO, data=b"[exitcode] 3")]
    ran = eru("exec", "shop/web", "false")
    assert ran.code == 3
    assert "in shop_web_bbbbbb" in ran.err


def test_exec_in_an_app_of_which_nothing_runs(script, eru):
    script.answers["ListWorkloads"] = [instance(ONE, running=False, healthy=True)]
    ran = eru("exec", "shop", "true")
    assert ran.code == 1
    assert "no instance of shop runs" in ran.err
    assert "hint: eru workload start shop_web_aaaaaa" in ran.err


def test_waiting_for_removal(script, eru):
    script.answers["ListWorkloads"] = [instance(ONE, running=True)]
    script.answers["GetWorkloadsStatus"] = pb.WorkloadsStatus(status=[pb.WorkloadStatus(id=ONE, running=True)])
    ran = eru("wait", "shop", "--for", "removed", "--timeout", "0.1s")
    assert ran.code == 1
    assert "is not removed within 0.1s: it is running" in ran.err
    script.answers["GetWorkloadsStatus"] = Fails("workload does not exist", kind="NotFound")
    ran = eru("wait", ONE, "--for", "removed")
    assert (ran.code, ran.err.startswith("✓ 1 of 1 removed")) == (0, True)
    script.answers["ListWorkloads"] = []
    assert eru("wait", "shop", "--for", "removed").code == 0
    assert eru("wait", "shop").code == 4
