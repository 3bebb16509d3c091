"""`-o template=`: a line per item."""

import pytest

from eru.cli.show.template import lines
from eru.wire import core_pb2 as pb

ITEM = {
    "name": "w1",
    "labels": {"tier": "front", "eru.core": "x"},
    "resources": '{"cpumem":{"cpu_limit":1.5}}',
    "publish": ["80", "81"],
    "available": True,
}


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{{.name}} on {{ .labels.tier }}", "w1 on front"),
        (r"{{.name}}\t{{.labels.eru.core}}\\n", "w1\tx\\n"),
        ("{{.resources.cpumem.cpu_limit}}", "1.5"),
        ("{{.publish.1}} {{.publish}} {{json .name}}", '81 ["80","81"] "w1"'),
        ("{{.available}}[{{.lacking}}][{{.name.deeper}}][{{.publish.9}}]", "true[][][]"),
        ("plain", "plain"),
    ],
)
def test_paths(template: str, wanted: str):
    assert lines([ITEM, ITEM], template) == f"{wanted}\n" * 2


def test_on_the_command_line(eru, script):
    script.answers["ListPods"] = pb.Pods(pods=[pb.Pod(name="b", desc="Two"), pb.Pod(name="a")])
    assert eru("-o", "template=Pod {{.name}}: {{.desc}}", "pod", "list").out == "Pod a: \nPod b: Two\n"
    assert eru("pod", "list", "--output=template={{.name}}", published=True).out == "a\nb\n"
    script.answers["ListPods"] = pb.Pods()
    assert eru("-o", "template={{.name}}", "pod", "list").out == ""


@pytest.mark.parametrize("wrong", ["{{range .}}", "{{name}}", "{{.a | b}}"])
def test_what_is_no_path_is_refused(eru, script, wrong: str):
    script.answers["ListPods"] = pb.Pods(pods=[pb.Pod(name="a")])
    done = eru("-o", f"template={wrong}", "pod", "list")
    assert (done.code, done.err.splitlines()[0]) == (2, f"error: --output template: {wrong} is not a path")
