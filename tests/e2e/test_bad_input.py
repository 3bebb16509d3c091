"""Whatever is wrong is said in one sentence, ends with a code that is not 0 and leaves nothing half-done."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from support.user_cluster import ERU, POD, Cluster


def complains(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One error, with these words in it, and no traceback."""
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "Traceback" not in said
    errors = [line for line in done.stderr.splitlines() if line.startswith(("error:", "✗"))]
    assert len(errors) == 1, said
    for word in words:
        assert word.lower() in said.lower(), said


@pytest.fixture
def ready(blank: Cluster) -> Cluster:
    assert blank.up().returncode == 0
    return blank


def test_what_a_deploy_can_be_told_wrong(ready: Cluster) -> None:
    good = ready.deploy_words("bad", 1)
    spec = Path(good[-1])

    def deploy(**instead: str) -> subprocess.CompletedProcess[str]:
        words = list(good)
        for flag, value in instead.items():
            words[words.index(f"--{flag}") + 1] = value
        return ready.command(*words)

    complains(deploy(pod="nowhere"), "nowhere")
    complains(deploy(entry="missing"), "missing", "main")
    complains(deploy(count="0"), "count", "0")
    complains(deploy(memory="lots"), "memory", "lots")
    complains(deploy(memory="900G"), ready.node, "memory")
    complains(deploy(image="no-such-image:1"), "no-such-image")
    complains(ready.command(*good[:-1], str(spec.with_name("absent.yaml"))), "absent.yaml")
    spec.write_text("appname: [unclosed\n")
    complains(ready.command(*good), spec.name)
    spec.write_text("appname: bad\nentrypoints: 5\n")
    complains(ready.command(*good), "entrypoints")
    assert ready.containers() == {}
    assert ready.recorded() == {}
    assert ready.usage()["memory"] == 0
    assert ready.diffs() == []


def test_what_does_not_exist_is_named(ready: Cluster) -> None:
    complains(ready.command("workload", "remove", "f" * 64), "f" * 12)
    complains(ready.command("node", "get", "ghost"), "ghost")
    complains(ready.command("pod", "remove", "ghost"), "ghost")
    complains(ready.command("pod", "remove", POD), POD, "node")
    complains(ready.command("pod", "add", "../evil"), "../evil")
    complains(ready.command("pod", "add", POD), POD)


def test_nodes_that_cannot_be_reached(ready: Cluster, tmp_path: Path) -> None:
    def add(name: str, endpoint: str, *more: str) -> subprocess.CompletedProcess[str]:
        return ready.command("node", "add", POD, "--nodename", name, "--endpoint", endpoint, *more)

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        complains(add("dead", f"tcp://127.0.0.1:{port}"), f"127.0.0.1:{port}", "refused")
    complains(add("nosock", f"unix://{tmp_path}/none.sock"), "none.sock")
    complains(add("odd", "ftp://somewhere"), "ftp://somewhere")
    garbage = tmp_path / "ca.pem"
    garbage.write_text("this is no certificate\n")
    issued = trustme.CA().issue_cert("client")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    files = ["--ca", str(garbage), "--cert", str(cert), "--key", str(key)]
    complains(add("badcert", "tcp://127.0.0.1:2376", *files), "certificate")
    assert [node["name"] for node in _nodes(ready)] == [ready.node]


def test_a_port_in_use_and_a_second_cluster(blank: Cluster, tmp_path: Path) -> None:
    with socket.socket() as taken:
        host, port = blank.bind.split(":")
        taken.bind((host, int(port)))
        taken.listen()
        complains(blank.up(), f"port {port}", "in use", "--bind")
    assert not (blank.state / "core.pid").exists()
    with socket.socket() as taken:
        agent_host, _, agent_port = blank.agent_bind.rpartition(":")
        taken.bind((agent_host, int(agent_port)))
        taken.listen()
        complains(blank.up(), f"port {agent_port}", "in use", "--agent-bind")
    assert not (blank.state / "core.pid").exists()
    assert blank.up().returncode == 0
    second = blank.up()
    assert second.returncode == 0
    assert "already running" in second.stdout
    config = str(blank.state / "core.yaml")
    complains(blank.command("core", "--config", config), "already running")


def test_a_user_without_the_docker_group(blank: Cluster, tmp_path: Path) -> None:
    """As `nobody`: the socket may not be used, and it is said what to type."""
    tmp_path.chmod(0o777)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    environ = {**os.environ, "ERU_STATE": str(tmp_path / "nobody"), "HOME": str(tmp_path), "NO_COLOR": "1"}
    command = [*ERU, "up", "--bind", blank.bind, "--agent-bind", blank.agent_bind, "--engine", blank.engine]
    code = (
        "import os, runpy, sys; import eru.cli.app, eru.roots.up, eru.roots.local, eru.cli.show.talk; "
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); "
        f"sys.argv = {['eru', *command[3:]]!r}; runpy.run_module('eru', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    complains(done, "docker.sock", "usermod")


def test_core_configuration_that_cannot_work(tmp_path: Path) -> None:
    def core(text: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "core.yaml"
        path.write_text(text)
        command = [*ERU, "core", "--config", str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)

    complains(core("bind: nonsense\n"), "bind", "nonsense")
    complains(core("global_timeout: soon\n"), "global_timeout", "soon")
    complains(core("store: oracle\n"), "store", "oracle")
    complains(core("store: etcd\n"), "etcd.machines")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        complains(core(f"bind: 127.0.0.1:0\netcd: {{machines: ['127.0.0.1:{port}']}}\n"), f"127.0.0.1:{port}")


def _nodes(cluster: Cluster) -> list[dict[str, object]]:
    import json

    found = json.JSONDecoder()
    text, nodes = cluster.eru("-o", "json", "node", "list").strip(), []
    while text:
        node, end = found.raw_decode(text)
        nodes.extend(node if isinstance(node, list) else [node])
        text = text[end:].lstrip()
    return nodes
