"""Messages to the model: what is normalised, what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eru.model.commands import split_command
from eru.model.deploy import Strategy
from eru.model.errors import InvalidInput
from eru.model.workloads import HealthCheck, Meta, Workload, WorkloadStatus
from eru.wire import core_pb2 as pb
from eru.wire.convert.deploy import capacity_spec, deploy_spec, file_path, replace_spec
from eru.wire.convert.images import build_spec
from eru.wire.convert.nodes import new_node, node_change, resource_message
from eru.wire.convert.text import parse_bags, parse_object, to_json
from eru.wire.convert.workloads import ids, publish, statuses, workload_filter, workload_message
from eru.wire.status import NoIDs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("   ", []),
        ("ls -l", ["ls", "-l"]),
        ("  ls   -l  ", ["ls", "-l"]),
        ("sh -c 'ls'", ["sh", "-c", "ls"]),
        ("sh -c 'ls -l /tmp'", ["sh", "-c", "ls -l /tmp"]),
        ('sh -c "echo  two"', ["sh", "-c", "echo  two"]),
        ("echo ''", ["echo", ""]),
        ("echo it's", ["echo", "it's"]),
        ("grep \\d+ 'a\\'", ["grep", "\\d+", "a\\"]),
        ("echo 'a'b c'", ["echo", "a'b c"]),
        ("--flag='x'", ["--flag='x'"]),
    ],
)
def test_split(text: str, words: list[str]) -> None:
    assert split_command(text) == words


@pytest.mark.parametrize("text", ["'", "sh -c 'ls", "echo 'a'b", "x" * 200_000])
def test_split_refuses(text: str) -> None:
    with pytest.raises(InvalidInput):
        split_command(text)


@given(st.lists(st.text("ab \"'", min_size=1, max_size=6).filter(lambda word: not set(word) & set(" \"'")), max_size=5))
def test_split_of_plain_words_is_their_list(words: list[str]) -> None:
    assert split_command(" ".join(words)) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ({}, "{}"),
        ({"b": 1.0, "a": [0.5, 100.0]}, '{"a":[0.5,100],"b":1}'),
        ({"x": "<a&b>"}, '{"x":"\\u003ca\\u0026b\\u003e"}'),
        ({"n": {"z": None, "y": {}}}, '{"n":{"y":{},"z":null}}'),
        ({"big": 1e300, "i": 2**60}, '{"big":1e+300,"i":1152921504606846976}'),
    ],
)
def test_json(value: Any, text: str) -> None:
    assert to_json(value) == text


def test_bags() -> None:
    given = {
        "a": b'{"x": 1}',
        "broken": b"{",
        "list": b"[]",
        "none": b"null",
        "deep": b"[" * 10_000,
        "nan": b'{"x": NaN}',
    }
    assert parse_bags(given) == {"a": {"x": 1}}
    assert parse_object("raw_args", b"") == {}
    assert parse_object("raw_args", b"null") == {}
    for wrong in (b"[]", b"{", b"1", b"\xff"):
        with pytest.raises(InvalidInput, match="raw_args"):
            parse_object("raw_args", wrong)


def options(**changes: Any) -> pb.DeployOptions:
    good = {
        "name": "app",
        "podname": "pod",
        "image": "img:1",
        "count": 2,
        "entrypoint": pb.EntrypointOptions(name="web"),
    }
    return pb.DeployOptions(**{**good, **changes})


def test_the_first_wrong_thing_is_told_in_the_published_order() -> None:
    request = pb.DeployOptions()
    steps: list[tuple[str, Any, str]] = [
        ("name", "app", "app name is empty"),
        ("podname", "pod", "pod name is empty"),
        ("image", "img", "image is empty"),
        ("count", -1, "count is 0"),
        ("entrypoint", pb.EntrypointOptions(), "no entry in spec"),
        ("entrypoint", pb.EntrypointOptions(name="a_b"), "entrypoint name is empty"),
        ("entrypoint", pb.EntrypointOptions(name="web"), "entrypoint name has '_' character"),
        ("count", 1, "invalid deploy count"),
    ]
    for field, value, words in steps:
        with pytest.raises(InvalidInput, match=words):
            deploy_spec(request)
        if isinstance(value, pb.EntrypointOptions):
            request.entrypoint.CopyFrom(value)
        else:
            setattr(request, field, value)
    assert deploy_spec(request).count == 1


def test_old_commands_and_arguments() -> None:
    entrypoint = pb.EntrypointOptions(name="web", command="sh -c 'sleep 1'")
    assert deploy_spec(options(entrypoint=entrypoint, extra_args="-x 'y z'")).entrypoint.commands == [
        "sh",
        "-c",
        "sleep 1",
        "-x",
        "y z",
    ]
    entrypoint.commands.extend(["as", "it is"])
    assert deploy_spec(options(entrypoint=entrypoint)).entrypoint.commands == ["as", "it is"]


def test_log_only_with_a_type() -> None:
    assert deploy_spec(options()).entrypoint.log is None
    silent = pb.EntrypointOptions(name="web", log=pb.LogOptions(config={"a": "b"}))
    assert deploy_spec(options(entrypoint=silent)).entrypoint.log is None
    loud = pb.EntrypointOptions(name="web", log=pb.LogOptions(type="json-file", config={"a": "b"}))
    log = deploy_spec(options(entrypoint=loud)).entrypoint.log
    assert log is not None
    assert (log.type, log.config) == ("json-file", {"a": "b"})


def test_a_filter_replaces_names_and_labels_and_repeated_names_count_once() -> None:
    plain = deploy_spec(options(nodenames=["b", "a", "b"], nodelabels={"x": "1"})).nodes
    assert (plain.includes, plain.excludes, plain.labels) == (["b", "a"], [], {"x": "1"})
    chosen = pb.NodeFilter(includes=["a", "a", "b", "c"], excludes=["d"], labels={"y": "2"}, all=True)
    nodes = deploy_spec(options(nodenames=["z"], nodelabels={"x": "1"}, node_filter=chosen)).nodes
    assert (nodes.includes, nodes.excludes, nodes.labels) == (["a", "b", "c"], ["d"], {"y": "2"})
    assert deploy_spec(options(nodenames=["z"], node_filter=pb.NodeFilter())).nodes.includes == []


def test_files() -> None:
    spec = deploy_spec(
        options(
            data={"/b": b"2", "a": b"1", "/c": b""},
            modes={"/b": pb.FileMode(mode=0o600)},
            owners={"/c": pb.FileOwner(uid=5)},
        )
    )
    assert [(file.path, file.content, file.mode, file.uid) for file in spec.files] == [
        ("/b", b"2", 0o600, 0),
        ("/c", b"", 0, 5),
        ("/a", b"1", 0o755, 0),
    ]


@pytest.mark.parametrize("path", ["", "/", "/a/", "/a/../b", "..", "/a\0b", "/" + "x" * 5000])
def test_file_paths_that_are_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="file path"):
        file_path(path)


def test_root_is_number_0_and_strategies_are_known() -> None:
    assert deploy_spec(options(user="root")).user == "0"
    assert deploy_spec(options(user="www")).user == "www"
    assert deploy_spec(options(deploy_strategy=3)).strategy is Strategy.GLOBAL
    with pytest.raises(InvalidInput, match="deploy method not support yet"):
        deploy_spec(options(deploy_strategy=42))


def test_health_check_and_hook_only_when_given() -> None:
    spec = deploy_spec(options()).entrypoint
    assert (spec.health_check, spec.hook) == (None, None)
    entrypoint = pb.EntrypointOptions(
        name="web",
        healthcheck=pb.HealthCheckOptions(tcp_ports=["80"], http_port="80", url="/x", code=200),
        hook=pb.HookOptions(after_start=["a"], before_stop=["b"], force=True),
    )
    spec = deploy_spec(options(entrypoint=entrypoint)).entrypoint
    assert spec.health_check == HealthCheck(tcp_ports=["80"], http_port="80", http_url="/x", http_code=200)
    assert spec.hook is not None
    assert (spec.hook.after_start, spec.hook.before_stop, spec.hook.force) == (["a"], ["b"], True)


def test_capacity_asks_for_less() -> None:
    bare = pb.DeployOptions(entrypoint=pb.EntrypointOptions(name="web"), deploy_strategy=99)
    assert capacity_spec(bare).strategy is Strategy.DUMMY
    bare.deploy_strategy = pb.DeployOptions.AUTO
    with pytest.raises(InvalidInput, match="count"):
        capacity_spec(bare)
    with pytest.raises(InvalidInput, match="entrypoint name is empty"):
        capacity_spec(pb.DeployOptions())


def test_replace() -> None:
    with pytest.raises(InvalidInput, match="no deploy options"):
        replace_spec(pb.ReplaceOptions())
    deploy = pb.DeployOptions(name="app", entrypoint=pb.EntrypointOptions(name="web"))
    spec = replace_spec(pb.ReplaceOptions(deployOpt=deploy, IDs=["a", "b", "a"], copy={"/x": "y"}, networkinherit=True))
    assert (spec.deploy.count, spec.ids, spec.copy, spec.network_inherit) == (1, ["a", "b"], {"/x": "/y"}, True)


def test_nodes() -> None:
    node = new_node(pb.AddNodeOptions(nodename="n", podname="p", endpoint="tcp://x:1", cert="C"))
    assert node.tls is not None
    assert (node.tls.cert, node.tls.ca) == ("C", "")
    assert "C" not in repr(node.tls)
    change = node_change(pb.SetNodeOptions(nodename="n", resources={"a": b"{}", "b": b'{"x": 1}'}, bypass=2))
    assert (change.bypass, change.resources, change.endpoint, change.tls) == (False, {"b": {"x": 1}}, "", None)
    assert node_change(pb.SetNodeOptions(nodename="n")).bypass is None


def test_publish() -> None:
    assert publish({"a": "1.1.1.1", "b": ""}, ["80", "81"]) == {"a": "1.1.1.1:80,1.1.1.1:81"}
    assert publish({"a": "1.1.1.1"}, []) == {}


def test_workload_message() -> None:
    workload = Workload(
        id="i",
        name="a_b_cdefgh",
        podname="p",
        nodename="n",
        labels={"ERU_META": Meta(publish=["80"]).encode()},
        grant={"cpumem": {"cpu_request": 1.0}},
        create_time=5,
    )
    silent = workload_message(workload, None)
    assert silent.HasField("status")
    assert (dict(silent.publish), silent.resources) == ({}, '{"cpumem":{"cpu_request":1}}')
    status = WorkloadStatus(id="i", running=True, networks={"net": "1.2.3.4"}, ttl_s=9, appname="a")
    spoken = workload_message(workload, status)
    assert dict(spoken.publish) == {"net": "1.2.3.4:80"}
    assert (spoken.status.running, spoken.status.ttl, spoken.status.appname) == (True, 0, "")
    workload.labels["ERU_META"] = "not json"
    assert dict(workload_message(workload, status).publish) == {}


def test_the_last_status_of_an_id_counts() -> None:
    request = pb.SetWorkloadsStatusOptions(
        status=[pb.WorkloadStatus(id="a"), pb.WorkloadStatus(id="b"), pb.WorkloadStatus(id="a", running=True)]
    )
    assert [(status.id, status.running) for status in statuses(request)] == [("a", True), ("b", False)]


def test_ids_and_filters() -> None:
    assert ids(["b", "a", "b"]) == ["b", "a"]
    with pytest.raises(NoIDs):
        ids([])
    with pytest.raises(InvalidInput, match="not allowed"):
        ids(["../x"])
    assert workload_filter(pb.ListWorkloadsOptions(limit=-1)).limit == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (pb.BuildImageOptions(), "no builds in spec"),
        (pb.BuildImageOptions(build_method=1, builds=pb.Builds()), "no builds in spec"),
        (pb.BuildImageOptions(builds=pb.Builds(stages=["a"])), "no build spec"),
        (pb.BuildImageOptions(build_method=9), "unknown build type"),  # type: ignore[arg-type]
    ],
)
def test_builds_that_are_refused(options: pb.BuildImageOptions, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        build_spec(options)


def test_what_a_kind_notes_for_itself_is_not_shown() -> None:
    message = resource_message("n1", {"thing": {"_node": "n1", "a": 2}}, {"thing": {"_node": "n1", "a": 1}}, [])
    assert (message.resource_capacity, message.resource_usage) == ('{"thing":{"a":2}}', '{"thing":{"a":1}}')
