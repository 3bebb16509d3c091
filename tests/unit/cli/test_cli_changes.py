"""Commands that change workloads, files, images and networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eru.wire import core_pb2 as pb
from support.cli_samples import GOOD, ONE, OTHER, TWO, WORKLOAD, asked, bag, deployed
from support.scripted_core import Fails

# -- changing


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([pb.RemoveWorkloadMessage(id=ONE, success=True), pb.RemoveWorkloadMessage(id=TWO, success=True)], 0),
        ([pb.RemoveWorkloadMessage(id=ONE, success=True), pb.RemoveWorkloadMessage(id=TWO, hook="busy")], 1),
        ([pb.RemoveWorkloadMessage(id=ONE, hook="busy"), pb.RemoveWorkloadMessage(id=TWO, hook="busy")], 1),
        ([pb.RemoveWorkloadMessage(id=ONE, success=True)], 1),
        (Fails("key: /workloads/x: bad `Count` value, entity count invalid"), 4),
    ],
)
def test_exit_codes_of_remove(eru, script, answers, code: int):
    script.answers["RemoveWorkload"] = answers
    done = eru("workload", "remove", ONE, TWO)
    assert done.code == code
    assert code != 4 or done.err.startswith("error: there is no workload x\n")


@pytest.mark.parametrize("action", ["start", "stop", "restart", "suspend", "resume"])
def test_control(eru, script, action: str):
    script.answers["ControlWorkload"] = [pb.ControlWorkloadMessage(id=ONE, hook=b"warm\n")]
    done = eru("container", action, ONE, "--force")
    assert done.code == 0
    assert asked(script.requests("ControlWorkload")[0]) == {"IDs": [ONE], "type": action, "force": True}
    assert "  hook: warm" in done.err


def test_a_whole_app_needs_yes_without_a_terminal(eru, script):
    script.answers |= {
        "ListWorkloads": [WORKLOAD, OTHER],
        "RemoveWorkload": [pb.RemoveWorkloadMessage(id=each, success=True) for each in (ONE, TWO)],
    }
    assert eru("workload", "remove", "--app", "app").code == 2
    assert script.requests("RemoveWorkload") == []
    assert eru("workload", "remove", "--app", "app", "--yes").code == 0
    assert eru("workload", "remove").code == 2


def test_realloc_sends_changes(eru, script):
    script.answers["ReallocResource"] = pb.ReallocResourceMessage()
    assert eru("workload", "realloc", ONE, "--cpu=-0.5", "--memory=-128M").code == 0
    assert bag(script.requests("ReallocResource")[0])["cpumem"] == {
        "cpu-request": -0.5,
        "cpu-limit": -0.5,
        "memory-request": -(128 << 20),
        "memory-limit": -(128 << 20),
        "keep-cpu-bind": True,
    }
    assert eru("workload", "realloc", ONE).code == 2
    assert eru("workload", "realloc", ONE, "--cpu-bind", "--cpu-unbind").code == 2
    assert eru("workload", "realloc", ONE, "--cpu-unbind").code == 0
    script.answers["ReallocResource"] = pb.ReallocResourceMessage(error="not enough resource")
    assert eru("workload", "realloc", ONE, "--cpu", "1").code == 5


def test_scale(eru, script, spec):
    newest = pb.Workload(id=TWO, name="app_web_b", podname="p", nodename="n1", image="img:2", create_time=2)
    newest.resources = '{"cpumem":{"cpu_request":0.5,"cpu_limit":0.5,"memory_request":1024,"memory_limit":2048}}'
    oldest = pb.Workload(id=ONE, name="app_web_a", podname="p", nodename="n1", create_time=1)
    script.answers |= {
        "ListWorkloads": [newest, oldest],
        "Deploy": deployed(GOOD),
        "RemoveWorkload": [pb.RemoveWorkloadMessage(id=TWO, success=True)],
    }
    assert "nothing to do" in eru("workload", "scale", "app", "web", "--count", "2").err
    assert eru("workload", "scale", "app", "web", "--count", "1").code == 0
    assert [list(each.IDs) for each in script.requests("RemoveWorkload")] == [[TWO]]
    assert "--spec" in eru("workload", "scale", "app", "web", "--count", "5").err
    assert eru("workload", "scale", "app", "web", "--count", "5", "--spec", spec).code == 0
    options = script.requests("Deploy")[0].options
    assert (options.count, options.image, options.podname) == (3, "img:2", "p")
    assert bag(options)["cpumem"] == {
        "cpu-request": 0.5,
        "cpu-limit": 0.5,
        "memory-request": 1024,
        "memory-limit": 2048,
    }
    assert eru("workload", "scale", "other", "web", "--count", "5", "--spec", spec).code == 2


def test_scale_takes_the_network_of_what_runs(eru, script, spec):
    newest = pb.Workload(id=TWO, name="app_web_b", podname="p", nodename="n1", image="img", create_time=2)
    oldest = pb.Workload(id=ONE, name="app_web_a", podname="p", nodename="n1", image="img", create_time=1)
    oldest.status.networks["bridge"] = "172.17.0.2"
    script.answers |= {"ListWorkloads": [newest, oldest], "Deploy": deployed(GOOD)}
    more = ("workload", "scale", "app", "web", "--count", "3", "--spec", spec)
    assert eru(*more).code == 0
    assert eru(*more, "--network", "host").code == 0
    oldest.status.networks["second"] = "10.0.0.2"
    assert eru(*more).code == 0
    networks = [dict(each.options.networks) for each in script.requests("Deploy")]
    assert networks == [{"bridge": ""}, {"host": ""}, {"host": ""}]


# -- files, images, networks


def test_copy_writes_one_archive_per_file(eru, script, tmp_path):
    script.answers["Copy"] = [
        pb.CopyMessage(id=ONE, path="/etc/a", data=b"one"),
        pb.CopyMessage(id=ONE, path="/etc/b", data=b"two"),
        pb.CopyMessage(id=ONE, path="/etc/a", data=b"more"),
        pb.CopyMessage(id=ONE, path="/etc/c", error="no such file"),
    ]
    done = eru("workload", "copy", f"{ONE}:/etc/a,/etc/b,/etc/c", "-d", str(tmp_path / "new"))
    assert done.code == 1
    found = sorted(Path(line).read_bytes() for line in done.out.split())
    assert found == [b"onemore", b"two"]
    assert oct((tmp_path / "new").stat().st_mode)[-3:] == "700"
    assert eru("workload", "copy", "nothing").code == 2


def test_sendlarge_sends_pieces_and_empty_files(eru, script, tmp_path):
    big = tmp_path / "big"
    big.write_bytes(bytes(600_000))
    script.answers["SendLargeFile"] = [pb.SendMessage(id=ONE, path="/big")]
    assert eru("workload", "sendlarge", ONE, "--file", f"{big}:/big:640:1:2").code == 0
    pieces = script.requests("SendLargeFile")
    assert sum(len(each.chunk) for each in pieces) == 600_000
    assert {(each.dst, each.size, each.mode.mode, each.owner.gid) for each in pieces} == {("/big", 600_000, 0o640, 2)}
    big.write_bytes(b"")
    assert eru("workload", "sendlarge", ONE, "--file", f"{big}:/big").code == 0
    assert len(script.requests("SendLargeFile")) == len(pieces) + 1
    script.answers["SendLargeFile"] = []
    assert eru("workload", "sendlarge", ONE, "--file", f"{big}:/big").code == 1


def test_images(eru, script):
    item = pb.ImageItem(id="sha256:aa", tags=["a:1", "a:2"])
    script.answers |= {
        "ListImage": [
            pb.ListImageMessage(nodename="n1", images=[item]),
            pb.ListImageMessage(nodename="n2", err="away"),
        ],
        "RemoveImage": [pb.RemoveImageMessage(image="a:1", success=True, messages=["100% gone"])],
        "CacheImage": [pb.CacheImageMessage(image="a:1", nodename="n1", message="no such tag")],
    }
    done = eru("image", "list", "--node", "n1")
    assert (done.code, "a:2" in done.out, "node n2: away" in done.err) == (1, True, True)
    assert eru("image", "list").code == 2
    assert "100% gone" in eru("image", "remove", "--pod", "p", "--prune", "a:1").err
    done = eru("image", "cache", "a:1", "--pod", "p")
    assert (done.code, "no such tag" in done.err) == (1, True)


def test_networks(eru, script):
    script.answers |= {"ConnectNetwork": pb.Network(name="f", subnets=["10.1.0.2"]), "DisconnectNetwork": Fails("busy")}
    done = eru("network", "connect", ONE, "--network", "f", "--ipv4", "10.1.0.2")
    assert (done.code, "connected to f 10.1.0.2" in done.err) == (0, True)
    assert eru("network", "disconnect", ONE, "--network", "f", "--force").code == 1
    assert script.requests("DisconnectNetwork")[0].force


def test_build_reports_the_builders_code(eru, script, tmp_path):
    build = tmp_path / "b.yaml"
    build.write_text("stages: [a]\nbuilds: {a: {base: alpine, stop_signal: TERM}}\n")
    script.answers["BuildImage"] = [
        pb.BuildImageMessage(stream="step 1\n"),
        pb.BuildImageMessage(error="x", error_detail=pb.ErrorDetail(code=7, message="make failed")),
    ]
    done = eru("image", "build", "--name", "shop", "--tag", "1.5", str(build))
    assert (done.code, done.out, "make failed" in done.err) == (7, "step 1\n", True)
    assert script.requests("BuildImage")[0].builds.builds["a"].stop_signal == "TERM"


def replaced(**more: Any) -> pb.ReplaceWorkloadMessage:
    return pb.ReplaceWorkloadMessage(create=GOOD, remove=pb.RemoveWorkloadMessage(id=TWO, success=True), **more)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([replaced()], 0),
        ([replaced(), replaced(error="image missing")], 1),
        ([replaced(error="image missing")], 1),
        ([pb.ReplaceWorkloadMessage(error="no remove part at all")], 1),
        ([], 4),
        (Fails("app name is empty", number=1075), 2),
    ],
)
def test_exit_codes_of_replace(eru, script, spec, answers, code: int):
    script.answers["ReplaceWorkload"] = answers
    assert eru("workload", "replace", spec, "--entry", "web", "--image", "img").code == code


def test_replace_message(eru, script, spec):
    script.answers["ReplaceWorkload"] = [replaced()]
    options = ["--network", "front", "--network-inherit", "--label", "a=b", "--copy", "/x:/y", "--count", "3"]
    done = eru("workload", "replace", spec, "--entry", "web", "--image", "img", *options)
    assert (done.code, "networks are not inherited" in done.err) == (0, True)
    request = script.requests("ReplaceWorkload")[0]
    assert not request.networkinherit
    assert (dict(request.filter_labels), dict(request.copy)) == ({"a": "b"}, {"/x": "/y"})
    assert (request.deployOpt.count, dict(request.deployOpt.resources)) == (3, {})
    assert eru("workload", "replace", spec, "--entry", "web", "--image", "img", "--copy", "x").code == 2


def test_dissociate(eru, script):
    script.answers |= {
        "ListNodeWorkloads": pb.Workloads(workloads=[WORKLOAD]),
        "DissociateWorkload": [pb.DissociateWorkloadMessage(id=ONE)],
    }
    assert "app_web_abcdef (aaaaaaaaaaaa) dissociated" in eru("workload", "dissociate", "--node", "n1").err
    assert eru("workload", "dissociate").code == 2
    script.answers["DissociateWorkload"] = [pb.DissociateWorkloadMessage(id=ONE, error="busy")]
    assert eru("workload", "dissociate", ONE).code == 1
