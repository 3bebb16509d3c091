"""The security of core's port: TLS, mutual TLS, basic auth, one clear sentence for each mistake, secrets kept."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.core_processes import POD, CoreProcess
from support.etcd import Certificates
from support.user_cluster import ERU, until

PASSWORD = "correct-horse-battery"
USER = "operator"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of another authority."""
    return Certificates(tmp_path_factory.mktemp("strangers"))


def serving(folder: Path, **settings: Any) -> Iterator[CoreProcess]:
    plain = {"store": "embedded", "data_dir": str(folder / "data"), "log": {"level": "debug"}}
    core = CoreProcess(folder, "core", {**plain, **settings})
    core.start()
    yield core
    core.close()


@pytest.fixture(scope="module")
def tls_core(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreProcess]:
    """TLS and a login."""
    cert, key = certificates.issue("core")
    auth = {"username": USER, "password": PASSWORD}
    yield from serving(tmp_path_factory.mktemp("tls"), tls={"cert": str(cert), "key": str(key)}, auth=auth)


@pytest.fixture(scope="module")
def mutual_core(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreProcess]:
    """Clients show certificates."""
    cert, key = certificates.issue("core")
    tls = {"cert": str(cert), "key": str(key), "client_ca": str(certificates.ca)}
    yield from serving(tmp_path_factory.mktemp("mutual"), tls=tls)


def eru(core: CoreProcess, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "ERU": core.address, "NO_COLOR": "1", **variables}
    return subprocess.run(
        [*ERU, *words], env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=180, check=False
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that failed."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert 1 <= len(lines) <= 2, done.stderr  # the sentence, and what to do
    assert len(done.stderr) < 500, done.stderr
    return done.stderr.lower()


def login(ca: Path) -> tuple[list[str], dict[str, str]]:
    return ["--tls-ca", str(ca)], {"ERU_USERNAME": USER, "ERU_PASSWORD": PASSWORD}


def test_tls_with_a_login_works(tls_core: CoreProcess, certificates: Certificates) -> None:
    words, variables = login(certificates.ca)
    done = eru(tls_core, *words, "core", "info", **variables)
    assert done.returncode == 0, done.stderr
    discovered = eru(tls_core, "-e", f"eru://{tls_core.address}", *words, "pod", "list", **variables)
    assert discovered.returncode == 0, discovered.stderr


def test_a_certificate_of_another_authority_is_named(tls_core: CoreProcess, strangers: Certificates) -> None:
    said = refused(eru(tls_core, "--tls-ca", str(strangers.ca), "pod", "list"))
    assert tls_core.address in said
    assert "certificate is not trusted" in said


def test_a_certificate_for_another_name_is_named(tls_core: CoreProcess, certificates: Certificates) -> None:
    words, variables = login(certificates.ca)
    said = refused(eru(tls_core, *words, "--tls-server-name", "other.example", "pod", "list", **variables))
    assert "other.example" in said


def test_plain_text_to_a_tls_port_is_named(tls_core: CoreProcess) -> None:
    said = refused(eru(tls_core, "pod", "list"))
    assert "it speaks tls" in said


def test_tls_to_a_plain_port_is_named(certificates: Certificates, tmp_path: Path) -> None:
    for core in serving(tmp_path):
        assert "it does not speak tls" in refused(eru(core, "--tls-ca", str(certificates.ca), "pod", "list"))


@pytest.mark.parametrize("words", [("no-such-file.pem",), (os.devnull,)])
def test_a_file_that_is_no_certificate_is_named(tls_core: CoreProcess, words: tuple[str, ...]) -> None:
    done = eru(tls_core, "--tls-ca", *words, "pod", "list")
    assert done.returncode != 0
    assert "--tls-ca" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "what"),
    [
        ({}, "credentials"),
        ({"ERU_USERNAME": USER, "ERU_PASSWORD": "wrong-guess"}, "password"),
        ({"ERU_USERNAME": "somebody", "ERU_PASSWORD": PASSWORD}, "username"),
    ],
)
def test_a_wrong_login_is_named(
    tls_core: CoreProcess, certificates: Certificates, variables: dict[str, str], what: str
) -> None:
    said = refused(eru(tls_core, "--tls-ca", str(certificates.ca), "pod", "list", **variables))
    assert what in said
    assert "wrong-guess" not in said
    assert PASSWORD not in said


def test_mutual_tls(mutual_core: CoreProcess, certificates: Certificates, strangers: Certificates) -> None:
    ca = ["--tls-ca", str(certificates.ca)]
    cert, key = certificates.issue("client")
    done = eru(mutual_core, *ca, "--tls-cert", str(cert), "--tls-key", str(key), "pod", "add", POD)
    assert done.returncode == 0, done.stderr
    for verb in (["pod", "list"], ["pod", "add", "other"]):
        said = refused(eru(mutual_core, *ca, *verb))
        assert "asks for a client's certificate" in said
        assert "--tls-cert" in said
    cert, key = strangers.issue("stranger")
    said = refused(eru(mutual_core, *ca, "--tls-cert", str(cert), "--tls-key", str(key), "pod", "list"))
    assert "does not accept this client's certificate" in said


def test_an_agent_speaks_mutual_tls(
    mutual_core: CoreProcess, certificates: Certificates, docker_endpoint: str, tmp_path: Path
) -> None:
    cert, key = certificates.issue("agent")
    tls = {"ca": str(certificates.ca), "cert": str(cert), "key": str(key)}
    client = ["--tls-ca", tls["ca"], "--tls-cert", tls["cert"], "--tls-key", tls["key"]]
    assert eru(mutual_core, *client, "pod", "add", "agents").returncode == 0
    settings = {
        "core": [mutual_core.address],
        "core_tls": tls,
        "hostname": "tlsnode",
        "pid": str(tmp_path / "agent.pid"),
        "state_dir": str(tmp_path / "state"),
        "docker": {"endpoint": docker_endpoint},
        "heartbeat_interval": 2,
        "register": {"podname": "agents", "endpoint": docker_endpoint},
    }
    for name, wanted in (("right", True), ("nocert", False)):
        if not wanted:
            settings["core_tls"] = {"ca": tls["ca"]}
        config, log = tmp_path / f"{name}.yaml", tmp_path / f"{name}.log"
        config.write_text(yaml.safe_dump(settings))
        with log.open("wb") as out:
            agent = subprocess.Popen([*ERU, "agent", "--config", str(config)], stdout=out, stderr=out)
        try:
            if wanted:
                until(
                    lambda: '"tlsnode"' in eru(mutual_core, *client, "-o", "json", "node", "list", "agents").stdout,
                    "the agent's node in core's list",
                )
            else:
                until(lambda log=log: "certificate" in log.read_text(), f"the reason in the agent's log {log}")
                assert "Traceback" not in log.read_text()
        finally:
            agent.terminate()
            agent.wait(60)


SECRETS = {
    "auth": {"username": USER, "password": "planted-auth-password"},
    "git": {"scm_type": "github", "token": "planted-git-token"},
    "sentry_dsn": "",
    "docker": {"auths": {"registry.example": {"username": "puller", "password": "planted-registry-password"}}},
}
ETCD_SECRET = {"etcd": {"machines": ["127.0.0.1:9"], "auth": {"username": "root", "password": "planted-etcd-password"}}}
DSN = {"sentry_dsn": "https://planted-sentry-key@sentry.example/1"}


def test_secrets_are_in_no_output_and_no_log(tmp_path: Path) -> None:
    shown = CoreProcess(tmp_path, "shown", {**SECRETS, **ETCD_SECRET, **DSN, "store": "etcd"})
    done = subprocess.run(
        [*ERU, "core", "--check-config", "--config", str(shown.write())], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "planted" not in done.stdout + done.stderr
    assert done.stdout.count("***") == 5

    failing = CoreProcess(tmp_path, "failing", {**SECRETS, **ETCD_SECRET, "store": "etcd", "connection_timeout": "1s"})
    failing.start(wait=False)
    try:
        until(lambda: failing.log.stat().st_size > 0, "the first line of a core without its store")
    finally:
        failing.close()
    assert "planted" not in failing.log.read_text()

    for core in serving(tmp_path, **SECRETS):
        said = refused(eru(core, "pod", "list", ERU_USERNAME=USER, ERU_PASSWORD="planted-guess"))
        assert "planted" not in said
        right = {"ERU_USERNAME": USER, "ERU_PASSWORD": "planted-auth-password"}
        assert eru(core, "pod", "add", POD, **right).returncode == 0
        loud = eru(core, "-v", "pod", "list", **right)
        assert loud.returncode == 0
        assert "planted" not in loud.stdout + loud.stderr
        assert core.process is not None
        assert "planted" not in Path(f"/proc/{core.process.pid}/cmdline").read_text()
        assert core.stop() == 0
        log = core.log.read_text()
        assert re.search("listening", log)
        assert "planted" not in log
