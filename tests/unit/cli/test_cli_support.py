"""`eru support bundle`: everything that helps, and no secret, wherever somebody put one."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path

import pytest

from eru.cli.cluster.support.scrub import Scrubber
from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
from support.scripted_core import Fails

PEM = "-----BEGIN RSA PRIVATE KEY-----\nUExBTlRFRC1JTi1QRU0=\n-----END RSA PRIVATE KEY-----"
PLANTED = [
    "planted-env-value", "planted-login", "planted-label-token", "planted-in-endpoint", "planted-in-config",
    "planted-extension", "planted-registry", "UExBTlRFRC1JTi1QRU0=", "planted-in-dsn", "planted-bearer",
    "second-line-planted",
]  # fmt: skip

CONFIG = f"""
bind: 127.0.0.1:5001
auth: {{username: admin, password: planted-in-config}}
docker: {{auths: {{hub.example: {{username: bot, password: planted-registry}}}}}}
sentry_dsn: https://planted-in-dsn@sentry.example/1
tls: {{key_text: "{PEM.splitlines()[0]} UExBTlRFRC1JTi1QRU0="}}
"""


@pytest.fixture
def planted(script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster with secrets in every corner; the path of a configuration file with more."""
    workload = pb.Workload(
        id="a" * 64,
        name="shop_web_aBcDeF",
        nodename="n1",
        image="shop:1",
        env=["DB_URL=planted-env-value", "MODE=on", f"CERT={PEM}\nsecond-line-planted"],
        labels={"tier": "front", "vault_token": "planted-label-token"},
        status=pb.WorkloadStatus(id="a" * 64, running=True, extension=b'{"x":"planted-extension"}'),
    )
    failed = v1.Event(
        kind="failed",
        name="shop_web_aBcDeF",
        time_ns=time.time_ns(),
        error=f"hook: cannot log in with planted-env-value; Authorization: Bearer planted-bearer\n{PEM}",
    )
    script.answers |= {
        "Info": pb.CoreInfo(version="9"),
        "ListPods": pb.Pods(pods=[pb.Pod(name="prod")]),
        "ListPodNodes": [pb.Node(name="n1", podname="prod", endpoint="tcp://root:planted-in-endpoint@10.0.0.5:2376")],
        "ListWorkloads": [workload],
        "Stats": [v1.Stat(id="a" * 64, name="shop_web_aBcDeF", memory=5)],
        "Events": [failed],
        "Debug": v1.DebugReply(json=json.dumps({"core": {"id": "x"}, "why": "password=planted-login"})),
        "GetNodeStatus": Fails("n1 says planted-env-value"),
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ERU_USERNAME", "admin")
    monkeypatch.setenv("ERU_PASSWORD", "planted-login")
    config = tmp_path / "site.yaml"
    config.write_text(CONFIG)
    return config


def opened(data: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = [(entry.name.partition("/")[2], tar.extractfile(entry)) for entry in tar]
        return {name: file.read().decode() for name, file in files if file is not None}


def test_everything_is_there_and_no_planted_secret(eru, planted, tmp_path):
    ran = eru("support", "bundle", "-o", "b.tar.gz", "--config", str(planted))
    assert ran.code == 0, ran.err
    assert ran.out == "b.tar.gz\n"
    made = tmp_path / "b.tar.gz"
    assert made.stat().st_mode & 0o777 == 0o600
    files = opened(made.read_bytes())
    assert {name.partition("/")[0] for name in files} >= {
        "README.txt", "versions.json", "settings.json", "config", "pods.json", "nodes.json", "workloads.json",
        "stats.json", "cores", "events.jsonl", "doctor.json",
    }  # fmt: skip
    for name, text in files.items():
        for secret in PLANTED:
            assert secret not in text, f"{secret} in {name}"


def test_the_files_of_eru_up_are_there_and_a_missing_one_is_refused(eru, planted, tmp_path, monkeypatch):
    state = tmp_path / "state"
    state.mkdir()
    (state / "core.yaml").write_text("bind: 127.0.0.1:7\nauth: {password: planted-in-config}\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/core.yaml").write_text("bind: 127.0.0.1:8\n")
    monkeypatch.setenv("ERU_STATE", str(state))
    eru("support", "bundle", "-o", "b.tar.gz", "--config", str(tmp_path / "more/core.yaml"))
    files = opened((tmp_path / "b.tar.gz").read_bytes())
    texts = [text for name, text in files.items() if name.startswith("config/") and name.endswith("core.yaml")]
    assert any("127.0.0.1:7" in text for text in texts)
    assert any("127.0.0.1:8" in text for text in texts)
    assert not any("planted-in-config" in text for text in texts)
    done = eru("support", "bundle", "-o", "c.tar.gz", "--config", "nowhere.yaml")
    assert (done.code, "nowhere.yaml: there is no such file" in done.err) == (2, True)
    assert not (tmp_path / "c.tar.gz").exists()


def test_what_helps_is_left(eru, planted, tmp_path):
    eru("support", "bundle", "-o", "b.tar.gz", "--config", str(planted))
    files = opened((tmp_path / "b.tar.gz").read_bytes())
    [workload] = json.loads(files["workloads.json"])
    assert workload["env"] == ["DB_URL=***", "MODE=***", "CERT=***"]
    assert workload["labels"] == {"tier": "front", "vault_token": "***"}
    assert workload["image"] == "shop:1"
    assert json.loads(files["nodes.json"])[0]["endpoint"] == "tcp://***@10.0.0.5:2376"
    assert json.loads(files["events.jsonl"])["error"].startswith("hook: cannot log in with ***; Authorization: ***")
    assert "username: bot" in files["config/site.yaml"]
    settings = json.loads(files["settings.json"])
    assert settings["options"]["username"] == "admin"
    assert (settings["options"]["password"], settings["variables"]["ERU_PASSWORD"]) == ("***", "***")
    assert any("n1" in finding["text"] for finding in json.loads(files["doctor.json"]))


def test_what_cannot_be_collected_is_named(eru, script, planted, tmp_path):
    del script.answers["Stats"]
    script.answers["ListPods"] = Fails("no quorum")
    ran = eru("support", "bundle", "-o", "b.tar.gz")
    assert ran.code == 0
    assert "without pods: no quorum" in ran.err
    assert "without stats" in ran.err
    files = opened((tmp_path / "b.tar.gz").read_bytes())
    assert "no quorum" in files["missing.json"]
    assert "workloads.json" in files


def test_a_file_that_is_there_is_not_overwritten_and_a_name_is_made(eru, planted, tmp_path):
    (tmp_path / "b.tar.gz").write_text("mine")
    ran = eru("support", "bundle", "-o", "b.tar.gz")
    assert (ran.code, (tmp_path / "b.tar.gz").read_text()) == (2, "mine")
    assert eru("support", "bundle").code == 0
    assert len(list(tmp_path.glob("eru-support-20*Z.tar.gz"))) == 1


def test_without_any_core_there_is_still_a_bundle(eru, planted, tmp_path):
    ran = eru("-e", "127.0.0.1:1", "support", "bundle", "-o", "b.tar.gz")
    assert ran.code == 0
    files = opened((tmp_path / "b.tar.gz").read_bytes())
    assert "core does not answer" in files["missing.json"]
    assert any(each["state"] == "bad" for each in json.loads(files["doctor.json"]))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("password=hunter22 user=bob", "password=*** user=bob"),
        ('{"api_key": "abc", "n": 1}', '{"api_key": "***", "n": 1}'),
        ("token: 'x y'", "token: '***'"),
        ("redis://u:p@h:1/0", "redis://***@h:1/0"),
        ('"password": ""', '"password": ""'),
        ("token=true", "token=true"),
        (f"a {PEM} b", "a *** b"),
        ("-----BEGIN CERTIFICATE-----\nabc", "***"),
        ("nothing to hide: 5 of 7", "nothing to hide: 5 of 7"),
    ],
)
def test_what_looks_like_a_secret_goes(text, clean):
    assert Scrubber().text(text) == clean


def test_short_values_do_not_star_everything():
    scrubber = Scrubber()
    assert scrubber.env(["A=on", "B=swordfish", "C"]) == ["A=***", "B=***", "C"]
    assert scrubber.text("on the way with swordfish") == "on the way with ***"
