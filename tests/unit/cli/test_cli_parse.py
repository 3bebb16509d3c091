from __future__ import annotations

import pytest

from eru.cli import parse
from eru.cli.exits import Exit, Problem
from eru.cli.show.resources import ShareFilter, by_number, lines, node_lines, shares, totals
from eru.cli.spec import bags, files


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("1024", 1024),
        ("512M", 512 << 20),
        ("1.5g", 3 << 29),
        ("1GiB", 1 << 30),
        ("2kb", 2048),
        ("-1G", -(1 << 30)),
        (" 3T ", 3 << 40),
    ],
)
def test_sizes(text: str, number: int):
    assert parse.size("--memory", text) == number


@pytest.mark.parametrize("text", ["abc", "1Q", "1 2", "--1", "1e9", "9999999P", "G"])
def test_what_is_not_a_size_is_refused(text: str):
    with pytest.raises(Problem) as caught:
        parse.size("--memory", text)
    assert caught.value.code == Exit.USAGE
    assert repr(text) in str(caught.value)


def test_negative_size_of_a_workload():
    with pytest.raises(Problem, match="below zero"):
        parse.positive_size("--memory", "-1G")


def test_pairs_keep_equal_signs_in_values():
    assert parse.pairs("--label", ["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(Problem, match="key=value"):
        parse.pairs("--label", ["a"])


@pytest.mark.parametrize(("text", "number"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("0.5", 0.5)])
def test_times(text: str, number: float):
    assert parse.seconds("--timeout", text) == number


@pytest.mark.parametrize("text", ["", "x", "5 minutes", "-1"])
def test_wrong_times(text: str):
    with pytest.raises(Problem):
        parse.seconds("--timeout", text)


def test_workload_bags_as_published():
    made = bags.workload(
        bags.Wanted(cpu_limit=1.0, memory_limit="512M"),
        volumes_request=None,
        volumes_limit=["/a:/b"],
        extra='{"gpu":{"n":1}}',
    )
    assert bags.encoded(made) == {
        "cpumem": b'{"cpu-request":0,"cpu-limit":1,"memory-request":0,"memory-limit":536870912}',
        "storage": b'{"storage-request":0,"storage-limit":0,"volumes-request":null,"volumes-limit":["/a:/b"]}',
        "gpu": b'{"n":1}',
    }


def test_the_shortcuts_set_request_and_limit():
    wanted = bags.Wanted(cpu=0.5, cpu_limit=3, memory="64M", memory_request="1G", cpu_bind=True)
    cpumem = bags.workload(wanted, volumes_request=None, volumes_limit=None)["cpumem"]
    assert cpumem == {
        "cpu-request": 0.5,
        "cpu-limit": 0.5,
        "memory-request": 64 << 20,
        "memory-limit": 64 << 20,
        "cpu-bind": True,
    }


@pytest.mark.parametrize("wanted", [bags.Wanted(cpu=-1), bags.Wanted(cpu=float("nan")), bags.Wanted(memory="-1")])
def test_impossible_requests_are_refused(wanted: bags.Wanted):
    with pytest.raises(Problem):
        bags.workload(wanted, volumes_request=None, volumes_limit=None)


def test_extra_resources_cannot_override():
    with pytest.raises(Problem, match="cpumem"):
        bags.with_extra({}, '{"cpumem":{}}')
    with pytest.raises(Problem, match="not JSON"):
        bags.with_extra({}, "{")


def test_node_bags_hold_only_what_was_given():
    made = bags.node_bags({"cpu": 8, "share": 50, "memory": "1G", "label": (), "disk": ("/dev/a:/:1:1:1:1",)})
    assert made == {
        "cpumem": {"cpu": 8, "share": "50", "memory": "1G"},
        "storage": {"disks": ["/dev/a:/:1:1:1:1"]},
    }
    assert bags.node_bags({}) == {"cpumem": {}, "storage": {}}


def test_files(tmp_path):
    source = tmp_path / "a.conf"
    source.write_bytes(b"x\x00")
    packed = files.packed([f"{source}:/etc/a:640:7:9", f"{source}:/etc/b"])
    assert packed.data == {"/etc/a": b"x\x00", "/etc/b": b"x\x00"}
    assert (packed.modes["/etc/a"].mode, packed.owners["/etc/a"].uid, packed.owners["/etc/a"].gid) == (0o640, 7, 9)
    assert (packed.modes["/etc/b"].mode, packed.owners["/etc/b"].uid) == (0, 0)


@pytest.mark.parametrize("form", ["{0}", "{0}:", "{0}:etc/a", "{0}:/a:99", "{0}:/a:6:1", "{0}:/a:600:x:1", "no:/a"])
def test_wrong_files_are_refused(tmp_path, form: str):
    source = tmp_path / "a"
    source.write_text("x")
    with pytest.raises(Problem, match="--file"):
        files.packed([form.format(source)])


def test_resource_lines_are_sorted_by_number():
    assert sorted(["10", "9", "a", "0"], key=by_number) == ["0", "9", "10", "a"]
    capacity = {"cpu": 4, "cpu_map": {"10": 100, "9": 100}, "empty": {}}
    used = {"cpu": 1.5, "cpu_map": {"9": 50}, "unknown": 1, "empty": None}
    assert node_lines(capacity, used) == [
        "Capacity:",
        "cpu: 4",
        "cpu_map[9]: 100",
        "cpu_map[10]: 100",
        "------------",
        "Usage:",
        "cpu: 1.5",
        "cpu_map[9]: 50",
    ]
    assert lines({"a": ["x", 1]}) == ['a[0]: "x"', "a[1]: 1"]


def test_shares_of_nodes_without_volumes_are_zero():
    found = shares(
        '{"cpumem":{"cpu":4,"memory":100},"storage":{"storage":10,"volumes":{"/a":5,"/b":5}}}',
        '{"cpumem":{"cpu":1,"memory":50},"storage":{"storage":5,"volumes":{"/a":5}}}',
    )
    assert found == {"cpu": 0.25, "memory": 0.5, "storage": 0.5, "volume": 0.5}
    assert shares("null", "null") == {"cpu": 0, "memory": 0, "storage": 0, "volume": 0}
    assert ShareFilter("memory >= 50%")(found)
    assert not ShareFilter("cpu > 0.25")(found)
    assert ShareFilter("storage==50%")(found)
    with pytest.raises(Problem):
        ShareFilter("memroy > 1")


def test_totals_do_not_need_every_key():
    sums = totals(['{"cpumem":{"cpu_request":0.5,"memory_request":10}}', "null", '{"storage":{"storage_request":5}}'])
    assert sums == {"CPUs": 0.5, "Memory": 10, "Storage": 5}
