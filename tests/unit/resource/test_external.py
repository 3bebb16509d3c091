"""External resource plugins: the protocol, the shipped example, and the checker."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from eru.model.errors import Expired, InvalidInput, NoCapacity, Refused
from eru.model.nodes import EngineInfo
from eru.resource.check_plugin import main
from eru.resource.contract import UNLIMITED
from eru.resource.external import ExternalKind, Program, find_programs
from eru.resource.registry import ResourceSettings, builtin_kinds

EXAMPLE = Path(__file__).parents[3] / "examples" / "plugins" / "bandwidth"
NODE, WORKLOAD = '{"mbits": 1000}', '{"mbits": 50}'


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "bandwidth"
    shutil.copy(EXAMPLE, path)
    text = path.read_text().replace("#!/usr/bin/env python3", f"#!{sys.executable} -IS", 1)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def script(tmp_path):
    """Writes a shell script and gives it as a program."""

    def write(body, name="thing", timeout_s=60.0):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return Program(path, timeout_s)

    return write


def kind_and_node(plugin, mbits=1000):
    kind = ExternalKind(Program(plugin), metrics=True)
    capacity, usage = kind.node_added({"mbits": mbits}, EngineInfo(type="fake", nodename="n1"))
    return kind, capacity, usage


def measure(table, request, *rows):
    return table.measure(request, np.array(rows, np.int64))


def test_a_life_with_the_example(plugin):
    kind, capacity, usage = kind_and_node(plugin)
    assert (capacity, usage) == ({"mbits": 1000, "_node": "n1"}, {"mbits": 0, "_node": "n1"})
    request = kind.parse_request({"mbits": 300})
    table = kind.table()
    table.set(2, capacity, usage)
    said = measure(table, request, 2, 5)
    assert said.capacity.tolist() == [3, 0]
    assert said.rate.tolist() == [0.3, 0]
    allotments = kind.allot(capacity, usage, request, 2)
    assert [a.engine_params for a in allotments] == [{"mbits": 300}] * 2
    grants = [a.grant for a in allotments]
    usage = kind.add(usage, grants)
    assert usage == {"mbits": 600, "_node": "n1"}
    table.set(2, capacity, usage)
    assert measure(table, request, 2).capacity.tolist() == [1]
    with pytest.raises(NoCapacity, match="2 x 300 Mbit/s wanted, 400 free"):
        kind.allot(capacity, usage, request, 2)
    assert kind.explain("n1", capacity, usage, request) is None
    assert kind.explain("n1", capacity, usage, kind.parse_request({"mbits": 900})).dimension == "bandwidth.capacity"
    assert kind.diffs(usage, grants) == []
    assert kind.diffs(usage, grants[:1]) == ["bandwidth in use is recorded as 600, workloads sum up to 300"]
    result = kind.reallot(capacity, usage, grants[0], {"mbits": 100})
    assert result.allotment.grant == {"mbits": 400}
    assert result.usage["mbits"] == 700
    with pytest.raises(NoCapacity):
        kind.reallot(capacity, usage, grants[0], {"mbits": 500})
    assert kind.remap(capacity, usage, {"w": grants[0]}) == {}
    assert {g.name: g.value for g in kind.gauges("p", "n1", capacity, usage)} == {
        "bandwidth_capacity": 1000.0,
        "bandwidth_used": 600.0,
    }
    after, used = kind.node_changed(capacity, usage, {"mbits": -100}, delta=True)
    assert (after["mbits"], used["mbits"]) == (900, 600)
    with pytest.raises(Refused, match="600 are in use"):
        kind.node_changed(capacity, usage, {"mbits": 500}, delta=False)
    assert kind.subtract(usage, grants) == kind.zero(capacity)


def test_the_store_is_the_truth_whatever_the_program_remembers(plugin):
    kind, capacity, usage = kind_and_node(plugin)
    kind.add(usage, [{"mbits": 1000}])  # a transaction that was lost
    assert len(kind.allot(capacity, usage, kind.parse_request({"mbits": 1000}), 1)) == 1
    again, used = kind.node_added({"mbits": 7}, EngineInfo(type="fake", nodename="n1"))
    assert (again["mbits"], used["mbits"]) == (7, 0)


def test_counts_are_kept_until_the_node_changes(plugin):
    kind, capacity, usage = kind_and_node(plugin)
    table, request = kind.table(), kind.parse_request({"mbits": 100})
    table.set(0, capacity, usage)
    assert measure(table, request, 0).capacity[0] == 10
    plugin.rename(plugin.with_suffix(".gone"))
    assert measure(table, request, 0).capacity[0] == 10
    table.set(0, capacity, {**usage, "mbits": 500})
    with pytest.raises(Refused, match="cannot be run"):
        measure(table, request, 0)


def test_a_node_the_program_never_saw_takes_only_what_asks_nothing_of_it(plugin):
    kind = ExternalKind(Program(plugin))
    table = kind.table()
    table.set(0, {}, {})
    nothing, some = kind.parse_request(None), kind.parse_request({"mbits": 1})
    assert measure(table, nothing, 0, 1).capacity.tolist() == [UNLIMITED, 0]
    assert measure(table, some, 0).capacity.tolist() == [0]
    assert kind.explain("n", {}, {}, nothing) is None
    assert "not known" in kind.explain("n", {}, {}, some).detail
    (allotment,) = kind.allot({}, {}, nothing, 1)
    assert kind.add({}, [allotment.grant]) == kind.subtract({}, [allotment.grant]) == {}
    assert kind.reallot({}, {}, allotment.grant, {}).usage == {}
    assert kind.remap({}, {}, {"w": {}}) == {}
    assert kind.diffs({}, [{}]) == []
    with pytest.raises(Refused, match="does not know the node"):
        kind.allot({}, {}, some, 1)
    with pytest.raises(InvalidInput, match="no name"):
        kind.node_added({}, EngineInfo(type="fake"))


def test_the_request_arrives_as_the_protocol_says(script, tmp_path):
    program = script('cat > "$1.seen"; pwd > cwd; echo \'{"capacity":{"a":1},"usage":{"a":0}}\'')
    kind = ExternalKind(program)
    kind.node_added(None, EngineInfo(type="docker", ncpu=2, memory=3, resources={"x": b"{}"}, nodename="n"))
    assert json.loads((tmp_path / "add-node.seen").read_text()) == {
        "nodename": "n",
        "resource": None,
        "info": {"Type": "docker", "ID": "", "NCPU": 2, "MemTotal": 3, "StorageTotal": 0, "Resources": {"x": "e30="}},
    }
    assert Path((tmp_path / "cwd").read_text().strip()) == tmp_path


def test_answers_on_stderr_remarks_and_other_spellings(script):
    program = script('echo \'{"Nodes_Deploy_Capacity_Map":{"n":{"capacity":4,"USAGE":0.5}}}\' >&2')
    capacity, usage, _, _ = ExternalKind(program).ask(["n"], "null")
    assert (capacity.tolist(), usage.tolist()) == ([4], [0.5])
    assert script("echo just a remark >&2").call("x", {}) is None
    assert script("echo remark >&2; echo '[1]'").call("x", {}) == [1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo bad news >&2; exit 128", ["thing", "x failed", "exit status 128", "bad news"]),
        ("echo no json", ["not JSON", "no json"]),
        ("head -c 17000000 /dev/zero", ["too much"]),
        ("kill -9 $$", ["exit status -9"]),
    ],
)
def test_failures_are_told_in_its_own_words(script, body, words):
    with pytest.raises(Refused) as error:
        script(body).call("x", {})
    assert all(word in str(error.value) for word in words), str(error.value)
    assert len(str(error.value)) < 700


def test_a_program_that_knows_no_zero_of_a_thing_is_not_told_one(script):
    """Usage is made anew from nothing, also where the program refuses to hear of nothing."""
    program = script(
        """request=$(cat | tr -d ' ')
case "$1$request" in
  set-node-resource-info*'"usage":{"things":{"a":0'*) echo "count is less or equal to zero: a"; exit 128 ;;
  get-node-resource-info*) echo '{"capacity": {"things": {"a": 4}}}' ;;
  set-node-resource-usage*) echo '{"after": {"things": {"a": 2}}}' ;;
esac"""
    )
    kind = ExternalKind(program)
    empty = kind.zero({"things": {"a": 4}, "_node": "n1"})
    assert empty == {"things": {"a": 0}, "_node": "n1"}
    assert kind.add(empty, [{"things": {"a": 2}}]) == {"things": {"a": 2}, "_node": "n1"}


def test_a_slow_program_and_its_children_are_ended(script, tmp_path):
    for timeout_s in (0.5, 5, 30):  # longer where it does not even begin in that time
        program = script("sleep 60 & echo $! > begun; mv begun child; wait", timeout_s=timeout_s)
        with pytest.raises(Expired, match=f"longer than {timeout_s:g} s"):
            program.call("x", {})
        if (tmp_path / "child").exists():
            break
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 60  # the kernel ends it when it next runs, not when it is signalled
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_wrong_shapes_are_refused(script):
    with pytest.raises(Refused, match="answered a list"):
        ExternalKind(script("echo '[]'")).ask(["n"], "null")
    with pytest.raises(Refused, match="answered capacity as a list"):
        ExternalKind(script("echo '{\"capacity\":[]}'")).node_added({}, EngineInfo(type="f", nodename="n"))


def test_programs_of_a_directory(plugin, tmp_path):
    (tmp_path / "readme.txt").write_text("no program")
    (tmp_path / "lib.so").write_text("")
    (tmp_path / "lib.so").chmod(0o755)
    (tmp_path / "cpumem").write_text("")
    (tmp_path / "cpumem").chmod(0o755)
    assert [program.name for program in find_programs(str(tmp_path), 1)] == ["bandwidth", "cpumem"]
    kinds = builtin_kinds(ResourceSettings(plugin_dir=str(tmp_path), plugin_timeout_s=7))
    assert list(kinds) == ["cpumem", "storage", "gpu", "bandwidth"]
    assert kinds["bandwidth"].blocking
    assert not kinds["cpumem"].blocking
    with pytest.raises(InvalidInput, match=r"resource_plugin\.dir"):
        find_programs(str(tmp_path / "none"), 1)


def test_only_wanted_programs_of_a_directory(plugin, tmp_path):
    def kinds(*wanted):
        return list(builtin_kinds(ResourceSettings(plugin_dir=str(tmp_path), plugins_wanted=frozenset(wanted))))

    assert kinds() == kinds("bandwidth") == kinds("bandwidth", "cpumem")
    assert "bandwidth" not in kinds("cpumem")
    with pytest.raises(InvalidInput, match="bandwith is wanted"):
        kinds("bandwith")


def test_the_checker_passes_the_example(plugin, capsys):
    assert main([str(plugin), "--node", NODE, "--workload", WORKLOAD]) == 0
    out = capsys.readouterr().out
    assert "WRONG" not in out
    assert out.count("ok ") == 13
    assert json.loads((plugin.parent / "bandwidth.json").read_text()) == {}


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("asked * count > free(node)", "False", "6 were given"),
        ('+ (total if request.get("incr") else -total)\n    node["usage"]', '+ total\n    node["usage"]', "instead of"),
        ("[record(asked)] * count,", "[record(asked)],", "engine parameters"),
        ("[] if stored == summed else", "[] if True else", "no difference"),
        ('"delta_resource": record(change)', '"delta_resource": record(1)', "and became"),
        ('nodes[name] = {"capacity": record(total), "usage": record(0)}\n', "nodes[name] = {}\n", "is empty"),
    ],
)
def test_the_checker_finds_broken_plugins(plugin, capsys, right, wrong, told):
    text = plugin.read_text()
    assert right in text
    plugin.write_text(text.replace(right, wrong, 1))
    assert main([str(plugin), "--node", '{"mbits": 250}', "--workload", WORKLOAD]) == 1
    assert told in capsys.readouterr().out


def test_the_checker_as_a_command(tmp_path):
    command = [sys.executable, "-m", "eru.resource.check_plugin", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))
    assert done.returncode == 2
    assert "is not a file" in done.stderr
    assert main([str(EXAMPLE), "--node", "[]"]) == 2
