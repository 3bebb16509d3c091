from __future__ import annotations

import http.server
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from eru.agent.workloads import health_plan
from eru.cli.exits import Exit, Problem
from eru.cli.image import build as image_build
from eru.cli.spec import read as spec
from eru.cli.spec import schema
from eru.cli.spec.keys import KEYS
from eru.cli.spec.messages import messages
from eru.cli.spec.verbs import _about, examples
from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1

FULL = """\
appname: shop
entrypoints:
  web:
    cmd: serve --port 6379
    privileged: yes
    dir: /srv
    restart: always
    publish: [80, "8080/http"]
    sysctls: {net.core.somaxconn: 1024}
    log: {type: journald, config: {tag: 0123}}
    healthcheck: {tcp_ports: [6379], http_port: 90, url: /up, code: 0200}
    hook:
      after_start: [warm up]
      before_stop: []
      force: true
      after_resume: [x]
volumes: ["/a:/b"]
volumes_request:
labels: {on: yes, empty: }
dns: [1.1.1.1]
extra_hosts: ["db:10.0.0.1"]
stages: [build]
"""


def test_every_key_reaches_the_message_and_text_stays_text():
    made = spec.parse(FULL, "web", "web.yaml")
    entry = made.entrypoint
    assert (made.appname, entry.name, list(entry.commands)) == ("shop", "web", ["serve", "--port", "6379"])
    assert (entry.privileged, entry.dir, entry.restart) == (True, "/srv", "always")
    assert list(entry.publish) == ["80", "8080/http"]
    assert dict(entry.sysctls) == {"net.core.somaxconn": "1024"}
    assert (entry.log.type, dict(entry.log.config)) == ("journald", {"tag": "0123"})
    health = entry.healthcheck
    assert (list(health.tcp_ports), health.http_port, health.url, health.code) == (["6379"], "90", "/up", 200)
    assert (list(entry.hook.after_start), list(entry.hook.before_stop), entry.hook.force) == (["warm up"], [], True)
    assert (made.volumes, made.volumes_request) == (["/a:/b"], [])
    assert made.labels == {"on": "yes", "empty": ""}
    assert (made.dns, made.extra_hosts) == (["1.1.1.1"], ["db:10.0.0.1"])
    assert made.warnings == ["web.yaml:16: entrypoints.web.hook.after_resume is not used, core has no such hook"]


def test_health_keys_of_one_workload_travel_as_labels_that_the_agent_reads():
    keys = "{interval: 5s, timeout: 500ms, healthy_threshold: 2, unhealthy_threshold: 3, exec: test -e '/a b'}"
    made = spec.parse(f"appname: a\nlabels: {{x: y}}\nentrypoints: {{web: {{healthcheck: {keys}}}}}", "web", "s")
    assert made.warnings == []
    plan = health_plan(made.labels, 60.0, 10.0)
    assert (plan.interval_s, plan.timeout_s, plan.healthy_after, plan.unhealthy_after) == (5.0, 0.5, 2, 3)
    assert (plan.command, plan.complaint, made.labels["x"]) == (["test", "-e", "/a b"], "", "y")


def test_what_is_absent_is_absent_in_the_message():
    entry = spec.parse("appname: a\nentrypoints:\n  web:\n", "web", "s").entrypoint
    assert not entry.HasField("log")
    assert not entry.HasField("healthcheck")
    assert not entry.HasField("hook")
    assert list(entry.commands) == []


def test_commands_win_over_cmd_and_merge_keys_work():
    text = (
        "x-base: &b {dir: /x, cmd: a}\nappname: a\nentrypoints:\n  web:\n    <<: *b\n    commands: ['a  b', c, 1:30]\n"
    )
    made = spec.parse(text, "web", "s")
    assert list(made.entrypoint.commands) == ["a  b", "c", "1:30"]
    assert made.entrypoint.dir == "/x"
    assert made.warnings == []


MISSPELT = "appname: a\nentrypoint: {}\nentrypoints:\n  web: {comands: [x]}\n  other: {imge: x}\n"


def test_unknown_keys_are_errors_with_line_and_nearest_key():
    with pytest.raises(Problem, match=r"s\.yaml has 3 mistakes") as caught:
        spec.parse(MISSPELT, "web", "s.yaml")
    assert caught.value.code == Exit.USAGE
    assert caught.value.why == [
        "s.yaml:2: entrypoint is not a key of specs; did you mean entrypoints?",
        "s.yaml:4: entrypoints.web.comands is not a key of specs; did you mean commands?",
        "s.yaml:5: entrypoints.other.imge is not a key of specs",
    ]
    with pytest.raises(Problem) as caught:
        spec.parse("appname: a\nentrypoints: {web: {image: x}}\n", "web", "s.yaml")
    assert (caught.value.what, caught.value.hint) == (
        "s.yaml:2: entrypoints.web.image is not a key of specs",
        "say it when deploying: --image",
    )


def test_for_the_published_program_unknown_keys_are_told_and_variables_are_text():
    text = MISSPELT.replace("[x]", "[x], cmd: 'echo ${HOME}'").replace(
        "entrypoint: {}\n", "entrypoint: {}\nbuilds: 1\n"
    )
    made = spec.parse(text, "web", "s.yaml", strict=False)
    assert made.warnings == [
        "s.yaml:2: entrypoint is not a key of specs and is ignored; did you mean entrypoints?",
        "s.yaml:5: entrypoints.web.comands is not a key of specs and is ignored; did you mean commands?",
    ]
    assert list(made.entrypoint.commands) == ["echo", "${HOME}"]


def test_the_two_programs_read_specs_differently(eru, script, tmp_path, monkeypatch):
    monkeypatch.setenv("WHO", "me")
    path = tmp_path / "s.yaml"
    path.write_text("appname: a\nimage: x\nentrypoints:\n  web: {commands: ['${WHO}']}\n")
    script.answers["CreateWorkload"] = []
    words = ("workload", "deploy", str(path), "--pod", "p", "--entry", "web", "--image", "i")
    done = eru(*words)
    assert (done.code, "s.yaml:2: image is not a key" in done.err) == (2, True)
    done = eru(*words, published=True)
    assert "image is not a key of specs and is ignored" in done.err
    assert list(script.requests("CreateWorkload")[0].entrypoint.commands) == ["${WHO}"]
    path.write_text(path.read_text().replace("image: x\n", ""))
    eru(*words)
    assert list(script.requests("CreateWorkload")[1].entrypoint.commands) == ["me"]


VARIABLES = {"A": "1", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "came"),
    [
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${A:-2}", "1"),
        ("${B:-2}", "2"),
        ("${EMPTY:-2}", "2"),
        ("${EMPTY}", ""),
        ("${B:-}", ""),
        ("${B:-a b/c:d}", "a b/c:d"),
        ("$${A}", "${A}"),
        ("$$", "$"),
        ("$A $HOME $1 $", "$A $HOME $1 $"),
    ],
)
def test_variables_are_replaced_in_values(text: str, came: str):
    made = spec.parse(f"appname: a\nentrypoints: {{web: {{commands: ['{text}']}}}}", "web", "s", variables=VARIABLES)
    assert list(made.entrypoint.commands) == [came]


@pytest.mark.parametrize("text", ["${B}", "${}", "${A", "${A:+x}", "${1}", "${A B}"])
def test_a_variable_that_is_not_there_or_misspelt_names_its_line(text: str):
    with pytest.raises(Problem) as caught:
        spec.parse(f"appname: a\nentrypoints:\n  web:\n    dir: '{text}'", "web", "s", variables=VARIABLES)
    assert caught.value.what.startswith("s:4: entrypoints.web.dir: ")


def test_a_variable_cannot_become_structure():
    made = spec.parse(
        "appname: a\nlabels: {k: '${X}'}\nentrypoints: {web: {}}", "web", "s", variables={"X": "v, other: w}\n- x"}
    )
    assert made.labels == {"k": "v, other: w}\n- x"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "s is empty"),
        ("a: [", "s:1 is not YAML"),
        ("- a", "must be a mapping"),
        ("entrypoints: {web: {}}", "appname is missing"),
        ("appname: a", "no entrypoints"),
        (
            "appname: a\nentrypoints:\n  web:\n    commands: x",
            "s:4: entrypoints.web.commands must be a list, but is 'x'",
        ),
        ("appname: [a]\nentrypoints: {web: {}}", "s:1: appname must be text, but is a list"),
        ("appname: a\nentrypoints: {web: {privileged: maybe}}", "must be true or false, but is 'maybe'"),
        ("appname: a\nentrypoints: {web: {healthcheck: {code: ok}}}", "must be a whole number, but is 'ok'"),
        ("appname: a\nentrypoints: {web: {healthcheck: {interval: often}}}", "must be a duration such as 5s"),
        ("appname: a\nentrypoints: {web: {healthcheck: {healthy_threshold: 0}}}", "a whole number from 1 to 9999"),
        ("appname: a\nentrypoints: {web: {healthcheck: {exec: 'a \"b'}}}", "is no command"),
        ("appname: a\nappname: b\nentrypoints: {web: {}}", "has the key 'appname' twice"),
        ("appname: a\nentrypoints: {web: {publish: [[1]]}}", "publish[0] must be text, but is a list"),
    ],
)
def test_wrong_specs_name_the_line(text: str, words: str):
    with pytest.raises(Problem) as caught:
        spec.parse(text, "web", "s")
    assert words in str(caught.value)
    assert caught.value.code == Exit.USAGE


def test_an_unknown_entrypoint_lists_what_there_is():
    with pytest.raises(Problem) as caught:
        spec.parse("appname: a\nentrypoints: {web: {}, job: {}}", "wbe", "s")
    assert caught.value.code == Exit.NOT_FOUND
    assert caught.value.why == ["it has job, web"]
    assert caught.value.hint == "did you mean web?"


async def test_missing_files_suggest_their_neighbours(tmp_path: Path):
    (tmp_path / "web.yaml").write_text("x")
    with pytest.raises(Problem, match="there is no spec file") as caught:
        await spec.read(str(tmp_path / "wbe.yaml"))
    assert caught.value.hint == "did you mean web.yaml?"
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(Problem, match="not text"):
        await spec.read(str(tmp_path / "bin.yaml"))


class _Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/web.yaml"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(b"appname: a" if found else b"appname: not this")

    def log_message(self, *args: object) -> None:
        pass


async def test_specs_from_the_web_need_status_200():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        place = f"http://127.0.0.1:{server.server_port}"
        assert await spec.read(f"{place}/web.yaml") == "appname: a"
        with pytest.raises(Problem, match="answered 404"):
            await spec.read(f"{place}/nope.yaml")
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(Problem, match=r"127\.0\.0\.1"):
        await spec.read(f"{place}/web.yaml")


def test_explain(eru):
    assert eru("explain", "-o", "name").out.split() == [key for key, each in KEYS.items() if not each.unused]
    done = eru("explain", "entrypoints.web.hook", "-o", "name")
    assert (done.code, len(done.out.split())) == (0, 4)
    done = eru("explain", "entrypoints.web.hok")
    assert done.code == 4
    assert done.err.splitlines()[-1].startswith("  hint: did you mean entrypoints.NAME.hook ")


def test_explain_messages(eru):
    assert set(messages()) == {method.DESCRIPTOR.name for method in _all_messages()}
    for name, message in messages().items():
        there = {each.DESCRIPTOR.name: each.DESCRIPTOR for each in _all_messages()}[name]
        assert {each.name: each.number for each in message.fields.values()} == {
            each.name: each.number for each in there.fields
        }
    done = eru("explain", "DeployRequest", "-o", "json")
    assert "Refuse unless the plan is still the one" in done.out
    assert eru("explain", "DeployOptions.entrypoint.hook", "-o", "name").out.split() == [
        "after_start",
        "before_stop",
        "force",
    ]
    assert "FILL" in eru("explain", "DeployOptions.deploy_strategy").out
    for key, hint in (("DeplyOptions", "DeployOptions"), ("Pod.nam", "name"), ("Pod.name.x", "")):
        done = eru("explain", key)
        assert (done.code, hint in done.err) == (4, True)


def _all_messages() -> list[Any]:
    found = [each for module in (pb, v1) for each in vars(module).values() if hasattr(each, "DESCRIPTOR")]
    return [each for each in found if isinstance(each, type) and hasattr(each.DESCRIPTOR, "fields")]


@pytest.mark.parametrize("name", examples())
def test_examples_are_right_and_can_be_deployed(eru, tmp_path, name: str):
    path = tmp_path / f"{name}.yaml"
    path.write_text(eru("spec", "example", name).out)
    assert eru("spec", "check", str(path)).code == 0
    entry = re.search(r"--entry (\S+)", path.read_text())
    assert spec.parse(path.read_text(), entry[1] if entry else "web", "s", variables={}).warnings == []
    assert "yaml-language-server" in path.read_text().splitlines()[0]
    assert path.read_text().splitlines()[1] == f"# {_about(name)}"


def test_check_tells_all_mistakes_of_all_files(eru, tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("appname: a\nentrypoints: {web: {}}\n")
    bad.write_text("appnam: a\nentrypoints:\n  w_b: {publish: 80}\n  ok: {healthcheck: {code: x}}\n")
    done = eru("spec", "check", str(good), str(bad))
    assert done.code == 2
    assert [line.partition("bad.yaml")[2] for line in done.err.splitlines() if line.startswith("✗")] == [
        ":1: appnam is not a key of specs; did you mean appname?",
        ":3: entrypoints.w_b: entrypoint name 'w_b': entrypoint name has '_' character",
        ":3: entrypoints.w_b.publish must be a list, but is '80'; write [80]",
        ":4: entrypoints.ok.healthcheck.code must be a whole number, but is 'x'",
        ": appname is missing; add a line `appname: NAME`",
    ]
    assert "5 mistakes in 1 of 2 files" in done.err
    assert eru("spec", "check", str(good), "--entry", "wbe").code == 2
    assert eru("spec", "check", str(tmp_path / "none.yaml")).code == 4
    assert '"ok": true' in eru("spec", "check", str(good), "-o", "json").out


def test_the_schema_is_published_and_knows_every_key():
    page = Path(__file__).resolve().parents[3] / "docs" / "spec.schema.json"
    assert page.read_text() == schema.text(), "run: python -m eru.cli.spec.schema docs/spec.schema.json"
    described = str(schema.schema())
    assert all(repr(each.meaning) in described for each in KEYS.values() if not each.unused)


def test_build_specs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VERSION", "1.5")
    text = "stages: [a]\nbuilds:\n  a:\n    base: alpine\n    repo: git@x:y.git\n    version: '{{ .VERSION }}'\n"
    warnings: list[str] = []
    made = image_build.parse_builds(image_build.expand(text, "b"), "b", "", warnings)
    assert (list(made.stages), made.builds["a"].version, warnings) == (["a"], "1.5", [])
    with pytest.raises(Problem, match="b:2: the variable NOPE is not set"):
        image_build.expand("x\n{{.NOPE}}", "b")
    with pytest.raises(Problem, match="no entry in builds"):
        image_build.parse_builds("stages: [b]\nbuilds: {a: {}}", "b", "", [])
