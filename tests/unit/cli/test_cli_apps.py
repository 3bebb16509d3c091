"""`eru run`, `eru init`, `eru import`: from nothing, from what runs, from a compose file."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from eru.cli.apps import compose
from eru.cli.apps.draft import app_of_image, literal, shell
from eru.cli.exits import Problem, not_found
from eru.cli.show.ask import ask
from eru.cli.spec import read as specs
from eru.cli.spec.expand import expanded
from eru.model.workloads import HealthCheck, Meta
from eru.wire import core_pb2 as pb
from support.cli_samples import ID, ONE, bag


def no_file(name: str) -> str:
    raise not_found(f"{name}: not there")


def imported(text: str) -> compose.Compose:
    return compose.read(text, "compose.yaml", "", "folder", no_file)


FULL = """\
name: shop
services:
  web_front:
    image: shop:${TAG:-1}
    entrypoint: /init
    command: serve --port 8000 --name "$NAME"
    working_dir: /srv
    user: "1000"
    privileged: true
    ports: ["8080:8000", "127.0.0.1:9000:9000/udp", {target: 443, published: 8443}, 7000-7002, x]
    expose: ["8000", 8001]
    environment:
      A: "1"
      PASS:
      WITH: "a b $$HOME ${X-y}"
    depends_on: [db]
    volumes: [data:/data, ./src:/src, "/etc/x:/etc/x:ro", /anon]
    healthcheck: {test: curl -f localhost:8000, interval: 10s, timeout: 1s, retries: 3, start_period: 5s}
    deploy:
      replicas: 3
      mode: replicated
      resources: {limits: {cpus: "0.5", memory: 512m}, reservations: {memory: 256mb, devices: []}}
      placement: {constraints: ["node.labels.zone == a", node.role == manager]}
      update_config: {parallelism: 2}
    restart: unless-stopped
    cap_add: [NET_ADMIN]
    ulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}
    networks: [front, back]
    logging: {driver: journald, options: {tag: x}}
    sysctls: [net.core.somaxconn=1024]
    labels: [a=b]
    dns: 1.1.1.1
    extra_hosts: ["db:10.0.0.1", "x=10.0.0.2"]
    tmpfs: /run
    x-mine: anything
    wat: 1
  db:
    image: postgres:17
    env_file: .env
    healthcheck: {test: [CMD, pg_isready, -U, me]}
    deploy: {mode: global, restart_policy: {condition: on-failure, max_attempts: 4, delay: 1s}}
    volumes:
      - {type: volume, source: pg, target: /var/lib, read_only: true, volume: {}}
      - {type: tmpfs, target: /run}
    networks: {back: {ipv4_address: 10.1.0.5}}
    ports: ["5432"]
networks: {front: {}, back: {}}
"""


def test_every_key_of_a_compose_file_is_mapped_or_told_with_its_line():
    made = imported(FULL)
    web, db = made.drafts
    assert web.spec() == {
        "appname": "shop",
        "entrypoints": {
            "web-front": {
                "commands": ["/init", "serve", "--port", "8000", "--name", "${NAME}"],
                "dir": "/srv",
                "restart": "always",
                "privileged": True,
                "publish": ["8000", "9000", "443", "7000", "7001", "7002", "8001"],
                "sysctls": {"net.core.somaxconn": "1024"},
                "log": {"type": "journald", "config": {"tag": "x"}},
                "healthcheck": {
                    "exec": "sh -c 'curl -f localhost:8000'",
                    "interval": "10s",
                    "timeout": "1s",
                    "unhealthy_threshold": 3,
                },
            }
        },
        "volumes": ["data:/data:rw", "/etc/x:/etc/x:ro"],
        "labels": {"a": "b"},
        "dns": ["1.1.1.1"],
        "extra_hosts": ["db:10.0.0.1", "x:10.0.0.2"],
    }
    assert (web.count, web.env) == ("3", ["A=1", "PASS=${PASS:-}", "WITH=a b $$HOME ${X:-y}"])
    assert web.options == {
        "--user": "1000",
        "--cpu-limit": "0.5",
        "--memory-limit": "512M",
        "--memory-request": "256M",
        "--nodelabel": "zone=a",
        "--network": "front",
    }
    assert web.raw["ulimits"] == [{"Name": "nofile", "Soft": 10, "Hard": 20}, {"Name": "nproc", "Soft": 5, "Hard": 5}]
    assert (db.restart, db.options["--deploy-strategy"], db.options["--network"]) == (
        "on-failure:4",
        "EACH",
        "back=10.1.0.5",
    )
    assert (db.volumes, db.healthcheck) == (["pg:/var/lib:ro"], {"exec": "pg_isready -U me"})
    told = {note.split(": ")[0].rpartition(":")[2] + " " + note.split(": ")[1] for note in made.notes}
    assert told == {
        "3 services.web_front",
        "5 services.web_front.entrypoint",
        *(f"10 services.web_front.ports[{index}]" for index in (0, 1, 2, 4)),
        "16 services.web_front.depends_on",
        *(f"17 services.web_front.volumes[{index}]" for index in (1, 3)),
        "18 services.web_front.healthcheck.start_period",
        "22 services.web_front.deploy.resources.reservations.devices",
        "23 services.web_front.deploy.placement.constraints[1]",
        "24 services.web_front.deploy.update_config",
        "25 services.web_front.restart",
        "28 services.web_front.networks[1]",
        "34 services.web_front.tmpfs",
        "36 services.web_front.wat",
        "39 services.db.env_file",
        "41 services.db.deploy.restart_policy.delay",
        "43 services.db.volumes[0].volume",
        "44 services.db.volumes[1]",
        "47 networks",
    }
    assert all(", because " in note or "; not mapped" in note for note in made.notes)


def test_what_is_written_passes_the_check_and_deploys_the_same(eru, script, tmp_path, monkeypatch):
    monkeypatch.setenv("NAME", "n ame")
    monkeypatch.setenv("PASS", "s3cret")
    (tmp_path / ".env").write_text("# note\nexport POSTGRES=a$b ${c}\nQ='x y'\n")
    (tmp_path / "compose.yaml").write_text(FULL)
    monkeypatch.chdir(tmp_path)
    done = eru("import", "compose.yaml", "--dir", "out", "--pod", "prod", "-o", "name")
    assert (done.code, done.out.split()) == (0, ["out/web-front.yaml", "out/db.yaml"])
    assert eru("spec", "check", *done.out.split()).code == 0
    script.answers["CreateWorkload"] = []
    for line in [line.removeprefix("next: eru ") for line in done.err.splitlines() if line.startswith("next: ")]:
        words = subprocess.run(["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True)
        eru(*words.stdout.splitlines())
    web, db = script.requests("CreateWorkload")
    assert list(web.entrypoint.commands) == ["/init", "serve", "--port", "8000", "--name", "n ame"]
    assert list(web.env) == ["A=1", "PASS=s3cret", "WITH=a b $HOME y"]
    assert (web.image, web.count, dict(web.networks)) == ("shop:1", 3, {"front": ""})
    assert bag(web)["cpumem"]["memory-limit"] == 512 * 1024 * 1024
    assert list(db.env) == ["POSTGRES=a$b ${c}", "Q=x y"]
    assert db.deploy_strategy == pb.DeployOptions.EACH
    assert eru("import", "compose.yaml", "--dir", "out").code == 2  # they are there
    assert eru("import", "compose.yaml", "--dir", "out", "--force").code == 0
    assert eru("import", "compose.yaml", "--dir", "other", "--strict").code == 1
    assert not Path("other").exists()


ODD = """
services:
  web:
    volume: [x:/y]
    long_volume: x
    resources: {limits: {cpus: "1"}}
    imgae: nginx
    volumes: ['C:\\data:/w', "named:/v"]
    deploy: {replicas: 0}
  db: {build: .}
"""


def test_keys_that_only_look_like_ours_and_values_that_cannot_work_are_told():
    made = imported(ODD)
    web, _ = made.drafts
    assert (web.volumes, web.count, web.options) == (["named:/v:rw"], "", {"--network": "bridge"})
    told = "\n".join(made.notes)
    assert (
        "services.web.volume: not mapped, because neither specs nor deploy have such a setting; did you mean vol"
        in told
    )
    assert "services.web.imgae: " in told
    assert "did you mean image?" in told
    assert "services.web.volumes[0]: not mapped" in told
    assert "services.web.deploy.replicas: not mapped" in told
    assert "services.web: incomplete, because it has no image" in told
    assert "services.db: incomplete" not in told


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=12)
NAME = st.from_regex(r"[a-z][a-z0-9_.-]{0,10}[a-z0-9]", fullmatch=True)
# what a shell and a spec might misread; a lone $ before a letter is a variable in compose files
WORD = TEXT.map(lambda text: text.replace("$", "$$")).filter(lambda text: text.strip() == text)
SERVICE = st.fixed_dictionaries(
    {"image": NAME},
    optional={
        "command": st.lists(WORD, min_size=1, max_size=4),
        "working_dir": WORD.map("/".__add__),
        "environment": st.dictionaries(NAME, WORD, max_size=3),
        "labels": st.dictionaries(NAME, WORD, max_size=3),
        "ports": st.lists(st.integers(1, 65535).map(str), max_size=3),
        "volumes": st.lists(st.tuples(NAME, NAME).map(lambda each: f"/{each[0]}:/{each[1]}"), max_size=2),
        "restart": st.sampled_from(["no", "always", "unless-stopped", "on-failure:3"]),
        "privileged": st.booleans(),
        "dns": st.lists(st.sampled_from(["1.1.1.1", "fd00::53"]), max_size=2),
        "healthcheck": st.fixed_dictionaries({"test": WORD, "interval": st.sampled_from(["5s", "1m30s"])}),
        "scale": st.integers(1, 9),
        "stop_grace_period": st.just("5s"),
        "x-note": WORD,
    },
)


@settings(deadline=None)
@given(services=st.dictionaries(NAME.filter(lambda name: "_" not in name), SERVICE, min_size=1, max_size=3))
def test_any_compose_file_becomes_specs_that_say_the_same(services: dict[str, Any]):
    made = imported(yaml.safe_dump({"services": services}, allow_unicode=True))
    for draft, (_, service) in zip(made.drafts, sorted(services.items()), strict=True):
        text = draft.text("x.yaml", "p")
        assert specs.check.findings(specs.root_of(text, "x.yaml")) == []
        spec = specs.parse(text, draft.entry, "x.yaml", variables={})
        assert list(spec.entrypoint.commands) == [word.replace("$$", "$") for word in service.get("command", [])]
        labels = {key: value for key, value in spec.labels.items() if not key.startswith("eru.health")}
        assert labels == {key: value.replace("$$", "$") for key, value in service.get("labels", {}).items()}
        assert list(spec.entrypoint.publish) == list(dict.fromkeys(service.get("ports", [])))
        words = shlex.split(draft.command("x.yaml", "p"))
        env = [words[index + 1] for index, word in enumerate(words) if word == "--env"]
        assert env == [
            f"{key}={value.replace('$$', '$')}" for key, value in sorted(service.get("environment", {}).items())
        ]
    assert sum("stop_grace_period" in note for note in made.notes) == sum(
        "stop_grace_period" in each for each in services.values()
    )


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_characters="\0", codec="utf-8")))
def test_a_literal_stays_as_it_is(text: str):
    assert expanded(literal(text), "", {}) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("a b", "a b"), ("${X}", "1"), ("a ${X:-2} $$HOME", "a 1 $HOME"), ('it\'s `x` "y" ${X}\\', 'it\'s `x` "y" 1\\')],
)
def test_words_for_a_shell(text: str, value: str):
    done = subprocess.run(["sh", "-c", f"printf %s {shell(text)}"], env={"X": "1"}, capture_output=True, check=True)
    assert done.stdout.decode() == value


@pytest.mark.parametrize("text", ["", "services: {}", "a: [", "services:\n  a: [x]\n"])
def test_what_is_no_compose_file_is_told(text: str):
    with pytest.raises(Problem):
        imported(text)


@pytest.mark.parametrize(
    ("image", "app"),
    [("nginx", "nginx"), ("reg:5000/team/shop:1.4", "shop"), ("a/b@sha256:ff", "b"), ("x/--:1", "app")],
)
def test_an_app_is_called_like_its_image(image: str, app: str):
    assert app_of_image(image) == app


# -- run


def test_run_without_a_file(eru, script):
    script.answers |= {"ListPods": pb.Pods(pods=[pb.Pod(name="only")]), "CreateWorkload": []}
    eru(
        "run",
        "-n",
        "2",
        "-p",
        "80",
        "--env",
        "A=b",
        "--label",
        "x=y",
        "--volume",
        "/a:/b",
        "r/shop:1",
        "serve",
        "-p",
        "1",
    )
    asked = script.requests("CreateWorkload")[0]
    assert (asked.name, asked.entrypoint.name, asked.image, asked.podname, asked.count) == (
        "shop",
        "main",
        "r/shop:1",
        "only",
        2,
    )
    assert (list(asked.entrypoint.commands), list(asked.entrypoint.publish)) == (["serve", "-p", "1"], ["80"])
    assert (dict(asked.labels), list(asked.env), bag(asked)["storage"]["volumes-limit"]) == (
        {"x": "y"},
        ["A=b"],
        ["/a:/b"],
    )
    eru("run", "--name", "clock", "alpine", "--", "date")
    assert (script.requests("CreateWorkload")[1].name, script.requests("CreateWorkload")[1].entrypoint.commands) == (
        "clock",
        ["date"],
    )


def test_run_wants_one_pod_and_good_names(eru, script):
    script.answers["ListPods"] = pb.Pods(pods=[pb.Pod(name="a"), pb.Pod(name="b")])
    done = eru("run", "nginx")
    assert (done.code, "there are 2" in done.err) == (2, True)
    script.answers["ListPods"] = pb.Pods()
    assert eru("run", "nginx").code == 4
    assert eru("run", "--name", "a b", "nginx").code == 2
    assert eru("run", "-p", "http", "nginx").code == 2
    assert eru("run", "--entry", "a_b", "nginx").code == 2


# -- init


def test_init_from_an_image(eru, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = eru("init", "--image", "shop:1", "--port", "80")
    assert (done.code, done.err.splitlines()[-1]) == (
        0,
        "next: eru workload deploy shop.yaml --pod POD --entry main --image shop:1",
    )
    assert eru("spec", "check", "shop.yaml").code == 0
    assert eru("init", "--image", "shop:1").code == 2
    assert eru("init").code == 2
    assert eru("init", "--from-app", "a", "--from-compose", "b").code == 2


def test_init_asks_on_a_terminal(tmp_path):
    code = "from eru.cli.app import root, run; import sys; sys.exit(run(root(), 'eru', ['init']))"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-c", code])
    os.write(terminal, b"team/shop:2\n\n80 81\n")
    seen = b""
    with suppress(OSError):  # how a terminal says that nobody is left
        while piece := os.read(terminal, 4096):
            seen += piece
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen
    assert yaml.safe_load((tmp_path / "shop.yaml").read_text())["entrypoints"]["main"]["publish"] == ["80", "81"]


def test_a_question_is_ended_by_one_signal():
    """The event loop's own handlers act only after the answer, so they must not be there while a question waits."""
    found = []

    class Input(io.StringIO):
        def readline(self, *args: Any) -> str:
            found.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))
            return "shop:1\n"

    async def question() -> str:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
        return ask("Image", default=None)

    before = signal.getsignal(signal.SIGINT)
    usual, sys.stdin = sys.stdin, Input()
    try:
        assert asyncio.run(question()) == "shop:1"
    finally:
        sys.stdin = usual
    assert found == [signal.default_int_handler, signal.SIG_DFL]
    assert signal.getsignal(signal.SIGINT) == before


def test_init_from_what_runs(eru, script, tmp_path):
    meta = Meta(publish=["80"], health_check=HealthCheck(http_port="80", http_url="/up", http_code=200))
    one = pb.Workload(
        id=ONE,
        name="shop_web_aaaaaa",
        podname="prod",
        image="shop:2",
        privileged=True,
        labels={"ERU_META": meta.encode(), "eru.nodename": "n1", "tier": "front ${x}"},
        env=["A=$B ${C}"],
        resources='{"cpumem":{"cpu_request":0.5,"cpu_limit":0.5,"memory_request":0,"memory_limit":536870912},'
        '"storage":{"volumes_limit":["/a:/b:rw:0:0:0:0:0","/c:/d:rw:1024:0:0:0:0"]}}',
        status=pb.WorkloadStatus(id=ONE, networks={"bridge": "10.0.0.1"}),
        create_time=2,
    )
    old = pb.Workload(id=ID + "2", name="shop_web_bbbbbb", podname="prod", image="shop:1", create_time=1)
    job = pb.Workload(id=ID + "3", name="shop_job_cccccc", podname="prod", image="shop:1")
    script.answers["ListWorkloads"] = [one, old, job]
    path = tmp_path / "s.yaml"
    assert "--from-app shop/job" in eru("init", str(path), "--from-app", "shop").err
    done = eru("init", str(path), "--from-app", "shop/web")
    assert done.code == 0
    made = specs.parse(path.read_text(), "web", "s", variables={})
    assert (made.appname, made.labels, made.volumes) == (
        "shop",
        {"tier": "front ${x}"},
        ["/a:/b:rw", "/c:/d:rw:1024"],
    )
    assert (list(made.entrypoint.publish), made.entrypoint.healthcheck.url) == (["80"], "/up")
    words = shlex.split(done.err.splitlines()[-1].removeprefix("next: "))
    assert words[4:] == [
        *("--pod", "prod", "--entry", "web", "--image", "shop:2", "--count", "2"),
        *("--cpu", "0.5", "--memory-limit", "512M", "--network", "bridge", "--env", "A=$B ${C}"),
    ]
    assert "Some instances still run shop:1" in path.read_text()
    assert eru("init", str(tmp_path / "x.yaml"), "--from-app", "shpo").code == 4
