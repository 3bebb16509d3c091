from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest

from eru.agent.workloads import health_plan
from eru.cli.exits import Exit, Problem
from eru.cli.image import build as image_build
from eru.cli.spec import explain
from eru.cli.spec import read as spec

FULL = """\
appname: shop
entrypoints:
  web:
    cmd: serve --port 6379
    privileged: yes
    dir: /srv
    restart: always
    publish: [80, 12:30, "8080/http"]
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
    assert list(entry.publish) == ["80", "12:30", "8080/http"]
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
    text = "base: &b {dir: /x, cmd: a}\nappname: a\nentrypoints:\n  web:\n    <<: *b\n    commands: ['a  b', c]\n"
    made = spec.parse(text, "web", "s")
    assert list(made.entrypoint.commands) == ["a  b", "c"]
    assert made.entrypoint.dir == "/x"
    assert len(made.warnings) == 1


def test_unknown_keys_are_told_with_a_suggestion():
    made = spec.parse("appname: a\nentrypoint: {}\nentrypoints:\n  web: {comands: [x]}\n", "web", "s.yaml")
    assert made.warnings == [
        "s.yaml:2: entrypoint is not a key of specs and is ignored; did you mean entrypoints?",
        "s.yaml:4: entrypoints.web.comands is not a key of specs and is ignored; did you mean commands?",
    ]


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


def test_explain_knows_every_key():
    top = {key for key in explain.KEYS if "." not in key}
    assert top == set(spec.TOP_KEYS)
    entry = [key.removeprefix("entrypoints.NAME.") for key in explain.KEYS if key.startswith("entrypoints.NAME.")]
    assert {key for key in entry if "." not in key} == set(spec.ENTRY_KEYS)
    unused = {"after_resume", "before_suspend"}
    for name, keys in (("log", spec.LOG_KEYS), ("healthcheck", spec.HEALTH_KEYS), ("hook", spec.HOOK_KEYS)):
        assert {key.removeprefix(f"{name}.") for key in entry if key.startswith(f"{name}.")} == set(keys) - unused


def test_explain(eru):
    assert eru("explain", "-o", "name").out.split() == list(explain.KEYS)
    done = eru("explain", "entrypoints.web.hook", "-o", "name")
    assert (done.code, len(done.out.split())) == (0, 4)
    done = eru("explain", "entrypoints.web.hok")
    assert (done.code, done.err.splitlines()[-1]) == (4, "  hint: did you mean hook?")


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
