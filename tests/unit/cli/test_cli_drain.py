"""Draining a node: what is removed is stopped first, since core removes nothing that runs."""

from __future__ import annotations

from eru.wire import core_pb2 as pb
from support.cli_samples import NODE, ONE, WORKLOAD


def test_what_runs_is_stopped_before_it_is_removed(eru, script):
    script.answers |= {
        "SetNode": NODE,
        "ListNodeWorkloads": pb.Workloads(workloads=[WORKLOAD]),
        "ControlWorkload": [pb.ControlWorkloadMessage(id=ONE)],
        "RemoveWorkload": [pb.RemoveWorkloadMessage(id=ONE, success=True)],
    }
    eru("node", "drain", "n1", "--remove", "--yes")
    called = [name for name, _ in script.asked if name in ("ControlWorkload", "RemoveWorkload")]
    assert called == ["ControlWorkload", "RemoveWorkload"]
    (stop,), (remove,) = script.requests("ControlWorkload"), script.requests("RemoveWorkload")
    assert (list(stop.IDs), stop.type, list(remove.IDs), remove.force) == ([ONE], "stop", [ONE], False)
    script.asked.clear()
    eru("node", "drain", "n1", "--remove", "--yes", "--force")
    assert [name for name, _ in script.asked if name == "ControlWorkload"] == []
    assert script.requests("RemoveWorkload")[0].force


def test_one_that_does_not_stop_is_told(eru, script):
    script.answers |= {
        "SetNode": NODE,
        "ListNodeWorkloads": pb.Workloads(workloads=[WORKLOAD]),
        "ControlWorkload": [pb.ControlWorkloadMessage(id=ONE, error="hook said no")],
        "RemoveWorkload": [pb.RemoveWorkloadMessage(id=ONE, success=False, hook="it runs")],
    }
    done = eru("node", "drain", "n1", "--remove", "--yes")
    assert done.code == 1
    assert "app_web_abcdef was not stopped: hook said no" in done.err
