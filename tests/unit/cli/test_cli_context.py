"""Contexts: the file, who decides, where passwords are, and that production is not overlooked."""

from __future__ import annotations

import io
import os
import pty
import stat
from pathlib import Path

import pytest

from eru.cli.app import root, run
from eru.cli.context import choose, file
from eru.cli.context.password import Secret
from eru.cli.exits import Exit, Problem
from eru.cli.session import Session
from eru.cli.settings import FLAG, VARIABLE, Settings
from eru.cli.show.talk import Talk
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from support.cli_samples import ONE


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Write the config file; returns its path."""
    path = tmp_path / "config.yaml"
    monkeypatch.setenv("ERU_CONFIG", str(path))

    def write(text: str) -> Path:
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


TWO = """\
# ours
current: prod
contexts:
  prod:
    address: core1:5001
    username: ops
    password_env: PROD_PASSWORD
    tls: true
    pod: web
    output: json
    production: true
  test: {address: "127.0.0.1:1"}
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("contexts:\n  prod:\n    adress: x\n", "c:3: contexts.prod.adress is not a key of the contexts"),
        ("contxts: {}\n", "c:1: contxts is not a key of the config file"),
        ("current: prd\ncontexts:\n  prod: {address: x}\n", "c:1: current: there is no context 'prd'"),
        ("contexts:\n  prod:\n    production: perhaps\n", "c:3: contexts.prod.production must be true or false"),
        ("contexts:\n  prod:\n    output: xml\n", "c:3: contexts.prod.output must be one of table"),
        ("contexts:\n  prod: [a]\n", "c:2: contexts.prod must be a mapping"),
        ("contexts:\n  a: {password: x,\n    password_env: Y}\n", "c:3: contexts.a.password_env and password exclude"),
        ("a: [", "c:1 is not YAML"),
    ],
)
def test_a_broken_file_names_line_and_key(text: str, told: str):
    with pytest.raises(Problem) as caught:
        file.parse(text, Path("c"))
    assert str(caught.value).startswith(told)
    assert caught.value.code == Exit.USAGE


def test_a_broken_file_is_told_by_every_command_that_needs_it(eru, config, monkeypatch):
    monkeypatch.delenv("ERU")
    path = config("contexts:\n  prod:\n    adress: x\n")
    done = eru("pod", "list")
    assert (done.code, done.err.splitlines()) == (
        2,
        [f"error: {path}:3: contexts.prod.adress is not a key of the contexts", "  hint: did you mean address?"],
    )
    assert eru("explain").code == 0  # asks no core
    assert "adress" not in eru("pod", "list", published=True).err


def asked(program: str = "eru", **given: str) -> Settings:
    """Settings of `name="option:value"` or `name="variable:value"`."""
    sources = {name: each.partition(":")[0] for name, each in given.items()}
    return Settings(program=program, sources=sources, **{name: each.partition(":")[2] for name, each in given.items()})


@pytest.mark.parametrize(
    ("settings", "context", "address"),
    [
        (asked(), "prod", "core1:5001"),
        (asked(context="option:test"), "test", "127.0.0.1:1"),
        (asked(context="variable:test"), "test", "127.0.0.1:1"),
        (asked(eru="variable:other:1"), "", "other:1"),
        (asked(eru="variable:other:1", context="variable:test"), "", "other:1"),
        (asked(eru="variable:other:1", context="option:test"), "test", "other:1"),
        (asked(eru="option:other:1"), "", "other:1"),
        (asked("eru-cli"), "", "127.0.0.1:5001"),
        (asked("eru-cli", context="variable:prod"), "prod", "core1:5001"),
    ],
)
def test_an_option_beats_a_variable_beats_the_context(config, settings: Settings, context: str, address: str):
    config(TWO)
    got = choose.effective(settings)
    assert (got.context, got.eru) == (context, address)
    assert got.production == (context == "prod")


def test_a_context_fills_what_was_not_given_and_its_password_goes_to_nobody_else(config):
    config(TWO)
    got = choose.effective(asked(output="option:wide"))
    assert (got.username, got.tls, got.pod, got.output) == ("ops", True, "web", "wide")
    assert got.secret == Secret("password_env", "PROD_PASSWORD")
    other = choose.effective(asked(eru="option:stranger:1"))
    assert (other.username, other.secret, other.tls, other.pod) == ("", None, False, "")
    assert choose.effective(asked(username="option:me")).secret is None
    assert FLAG != VARIABLE


def test_a_context_that_is_not_there_lists_what_is(eru, config):
    config(TWO)
    done = eru("--context", "prd", "pod", "list")
    assert (done.code, done.err.splitlines()[-1]) == (4, "  hint: did you mean prod?")


def test_without_a_file_nothing_changes(eru, script):
    script.answers["ListPods"] = pb.Pods()
    assert eru("pod", "list").code == 0


@pytest.mark.parametrize("home", ["/root/no/such/place", "relative", "/dev/null"])
def test_a_home_that_is_none_is_no_trouble(eru, script, monkeypatch, home: str):
    for name in ("ERU_CONFIG", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("ERU")
    done = eru("context", "show", "-o", "json")
    assert (done.code, '"context": "none"' in done.out) == (0, True)


def test_the_context_gives_address_pod_and_output(eru, script, config, monkeypatch):
    monkeypatch.delenv("ERU")
    monkeypatch.setenv("PROD_PASSWORD", "s3cret")
    config(TWO.replace("core1:5001", script.address).replace("    tls: true\n", ""))
    script.answers["ListPods"] = pb.Pods(pods=[pb.Pod(name="web")])
    done = eru("-v", "pod", "list")
    assert done.out.startswith("[\n")
    assert f"context prod, core {script.address}" in done.err
    assert "s3cret" not in done.err + done.out
    assert "s3cret" in [value for _, value in script.metadata("ListPods")]
    script.answers["RunAndWait"] = []
    eru("lambda", "--name", "x", "true")
    assert script.requests("RunAndWait")[0].deploy_options.podname == "web"


def test_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "password"
    path.write_text("from file\n")
    path.chmod(0o600)
    monkeypatch.setenv("PW", "from env")
    assert Secret("password_file", str(path)).read("c") == "from file"
    assert Secret("password_env", "PW").read("c") == "from env"
    assert Secret("password_command", "echo 'from command'").read("c") == "from command"
    path.chmod(0o640)
    for secret, told in (
        (Secret("password_file", str(path)), "others can read"),
        (Secret("password_file", "/nowhere/x"), "No such file"),
        (Secret("password_env", "NOPE"), "the variable NOPE is not set"),
        (Secret("password_command", "false"), "ended with 1"),
        (Secret("password_command", "no-such-program-here"), "No such file"),
    ):
        with pytest.raises(Problem, match=told):
            secret.read("c")


def test_a_file_with_a_password_is_for_its_owner_only(config):
    path = config("contexts: {a: {address: x, username: u, password: hidden}}\n")
    assert file.read().known["a"]["password"] == "hidden"
    path.chmod(0o644)
    with pytest.raises(Problem, match="others can read") as caught:
        file.read()
    assert caught.value.hint == f"chmod 600 {path}"


def test_the_life_of_a_context(eru, config, monkeypatch, tmp_path):
    monkeypatch.delenv("ERU")
    path = config("# mine, all mine\n")
    assert eru("context", "set", "a", "--address", "h:1", "--password-env", "X", "--pod", "p").code == 0
    assert eru("context", "set", "b", "--address", "h:2", "--production").code == 0
    assert path.read_text().startswith("# mine, all mine\ncurrent: a\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert eru("context", "list", "-o", "name").out == "a\nb\n"
    assert eru("context", "set", "a", "--password-command", "pass x", "--unset", "pod").code == 0
    assert file.read().known["a"] == {"address": "h:1", "password_command": "pass x"}
    done = eru("ctx", "use", "b")
    assert (done.code, "b is production" in done.err) == (0, True)
    assert file.read().current == "b"
    assert "h:2" in eru("ctx", "show").out
    assert eru("ctx", "rm", "b").code == 0
    assert (file.read().current, list(file.read().known)) == ("", ["a"])
    assert eru("ctx", "rm", "b").code == 4
    assert eru("ctx", "use", "--none").code == 0
    for words in (
        ("ctx", "use"),
        ("ctx", "set", "new"),
        ("ctx", "set", "a b", "--address", "x"),
        ("ctx", "set", "a", "--unset", "adress"),
        ("ctx", "set", "a", "--password-env", "A", "--password-file", "B"),
        ("ctx", "set", "a", "--default-output", "xml"),
    ):
        assert eru(*words).code == 2, words


def test_show_tells_where_values_come_from_and_no_password(eru, config, monkeypatch):
    config(TWO.replace("password_env: PROD_PASSWORD", "password: hush"))
    monkeypatch.delenv("ERU")
    done = eru("context", "show")
    assert "context prod" in done.out
    assert "hush" not in done.out + eru("context", "list", "-o", "json").out + eru("-o", "json", "ctx", "show").out
    monkeypatch.setenv("ERU", "h:9")
    done = eru("ctx", "show")
    assert ("h:9" in done.out, "variable" in done.out) == (True, True)


class Terminal(io.StringIO):
    """Text that claims to be shown to somebody."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("production", "count"), [(True, 1), (False, 0)])
async def test_production_is_announced_once_before_the_first_change(script, production: bool, count: int):
    script.answers |= {"ListPods": pb.Pods(), "AddPod": pb.Pod(), "GetNodeResource": pb.NodeResource()}
    settings = Settings(eru=script.address, context="prod", production=production)
    async with Session(settings) as session:
        seen = session.talk.out = Terminal()
        session.talk = Talk(out=seen)
        await session.unary(rpc.ListPods, pb.Empty())
        look = pb.GetNodeResourceOptions(opts=pb.GetNodeOptions(nodename="n"), fix=False)
        await session.unary(rpc.GetNodeResource, look)
        assert seen.getvalue() == ""
        await session.unary(rpc.AddPod, pb.AddPodOptions(name="a"))
        await session.unary(rpc.AddPod, pb.AddPodOptions(name="b"))
        assert seen.getvalue().count("PRODUCTION  context prod") == count
        assert session.where == (" in context prod (production)" if production else " in context prod")


def test_without_a_terminal_there_is_no_banner(eru, script, config, monkeypatch):
    monkeypatch.delenv("ERU")
    config(f"current: p\ncontexts: {{p: {{address: '{script.address}', production: true}}}}\n")
    script.answers["RemoveWorkload"] = [pb.RemoveWorkloadMessage(id=ONE, success=True)]
    assert "PRODUCTION" not in eru("workload", "remove", ONE).err


def test_the_banner_is_seen_on_a_real_terminal(script, config, monkeypatch, capfd):
    monkeypatch.delenv("ERU", raising=False)
    config(f"current: p\ncontexts: {{p: {{address: '{script.address}', production: true}}}}\n")
    script.answers["AddPod"] = pb.Pod(name="x")
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        with_stderr(terminal, lambda: run(root(), "eru", ["pod", "add", "x"]))
    assert b"\x1b[1;97;41m PRODUCTION  context p" in os.read(leader, 4096)
    os.close(leader)


def with_stderr(out: io.TextIOBase, call) -> None:
    """Run `call` with standard error elsewhere."""
    import contextlib

    with contextlib.redirect_stderr(out):
        call()
