"""Start, stop, restart, suspend and resume with their hooks, and what `force` and `ignore_hook` make of them."""

from __future__ import annotations

import pytest

from eru.wire import core_pb2 as pb
from support.verbs import FOREVER, Verbs, options

pytestmark = pytest.mark.docker


def control(verbs: Verbs, verb: str, *ids: str, force: bool = False) -> list[pb.ControlWorkloadMessage]:
    return list(verbs.core.ControlWorkload(pb.ControlWorkloadOptions(IDs=ids, type=verb, force=force)))


def hooked(**hook: object) -> dict[str, pb.HookOptions]:
    return {"hook": pb.HookOptions(**hook)}


def test_stop_start_and_restart_run_their_hooks(verbs: Verbs) -> None:
    [id] = verbs.deploy(entry=hooked(after_start=["echo began"], before_stop=["sh -c 'echo going; echo 2 >&2'"]))
    [stopped] = control(verbs, "stop", id)
    assert (stopped.error, sorted(stopped.hook.splitlines())) == ("", [b"2", b"going"])
    assert not verbs.running(id)
    [started] = control(verbs, "start", id)
    assert (started.error, started.hook) == ("", b"began\n")
    assert verbs.running(id)
    pid = verbs.inspect(id)["State"]["Pid"]
    [again] = control(verbs, "restart", id)
    assert again.error == ""
    assert again.hook.endswith(b"began\n")
    assert verbs.running(id)
    assert verbs.inspect(id)["State"]["Pid"] != pid


def test_a_failing_hook_counts_only_where_it_was_said_to(verbs: Verbs) -> None:
    [must] = verbs.deploy(entry=hooked(before_stop=["sh -c 'echo no; exit 7'"], force=True))
    [refused] = control(verbs, "stop", must)
    assert "no" in refused.error
    assert b"no" in refused.hook
    assert verbs.running(must)
    [forced] = control(verbs, "stop", must, force=True)
    assert forced.error == ""
    assert not verbs.running(must)
    [may] = verbs.deploy(entry=hooked(before_stop=["sh -c 'echo no; exit 7'"]))
    [stopped] = control(verbs, "stop", may)
    assert (stopped.error, b"no" in stopped.hook) == ("", True)
    assert not verbs.running(may)


def test_hooks_of_a_deploy_can_be_ignored(verbs: Verbs) -> None:
    failing = hooked(after_start=["false"], force=True)
    [refused] = verbs.core.CreateWorkload(options(entry=failing))
    assert refused.error
    [made] = verbs.core.CreateWorkload(options(entry=failing, ignore_hook=True))
    assert made.success, made
    [extra] = verbs.core.CreateWorkload(options(after_create=["echo first"], entry=hooked(after_start=["echo then"])))
    assert extra.hook == b"first\nthen\n"


def test_suspend_and_resume(verbs: Verbs) -> None:
    [id] = verbs.deploy()
    assert [message.error for message in control(verbs, "suspend", id)] == [""]
    assert verbs.inspect(id)["State"]["Paused"]
    assert [message.error for message in control(verbs, "resume", id)] == [""]
    assert not verbs.inspect(id)["State"]["Paused"]


def test_one_that_does_not_listen_is_stopped_at_once_by_force(verbs: Verbs) -> None:
    deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
    ids = verbs.deploy(count=3, commands=deaf)
    assert {message.error for message in control(verbs, "stop", *ids, force=True)} == {""}
    assert [verbs.inspect(id)["State"]["ExitCode"] for id in ids] == [137] * 3


def test_what_cannot_be_done_is_told_for_each(verbs: Verbs) -> None:
    [id] = verbs.deploy(commands=FOREVER)
    told = {message.id: message.error for message in control(verbs, "stop", id, "nobody")}
    assert told[id] == ""
    assert "nobody" in told["nobody"]
    [wrong] = control(verbs, "suspend", id)
    assert "not running" in wrong.error
