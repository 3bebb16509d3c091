"""What else than the file decides: files beside it, `CONFIGOR_` variables, other agents on the machine."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from eru.agent import state
from eru.agent.settings import AgentSettings, load_settings, parse_settings
from eru.agent.settings_given import from_environment
from eru.agent.state import PidFile, StateDir
from eru.lib.world import real_world
from eru.model.errors import InvalidInput
from eru.roots.agent import command

WORLD = real_world()
CORE = "core: [a:1]\n"


def test_the_file_of_the_stage_lies_over_the_file_and_an_example_stands_in(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    (tmp_path / "agent.example.yaml").write_text(CORE + "heartbeat_interval: 5\n")
    settings = load_settings(str(path))
    assert settings.heartbeat_interval == 5
    assert "agent.example.yaml is used" in settings.remarks[0]
    path.write_text(CORE + "heartbeat_interval: 1\nlog: {forwards: ['tcp://x:1'], stdout: true}\n")
    (tmp_path / "agent.development.yaml").write_text("heartbeat_interval: 3\n")
    (tmp_path / "agent.prod.yaml").write_text("log: {forwards: ['tcp://y:1', 'tcp://z:1']}\nkv: {}\n")
    settings = load_settings(str(path))
    assert (settings.heartbeat_interval, settings.log.forwards, settings.remarks) == (3, ["tcp://x:1"], [])
    settings = load_settings(str(path), environ={"CONFIGOR_ENV": "prod"})
    assert (settings.heartbeat_interval, settings.log.forwards) == (1, ["tcp://y:1", "tcp://z:1"])
    assert settings.log.stdout
    assert settings.unknown_keys == ["kv"]


def test_a_named_file_may_only_be_missing_when_a_variable_names_core(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.yaml")
    with pytest.raises(InvalidInput, match=r"agent.yaml does not exist"):
        load_settings(path, {"core-endpoint": "a:1"})
    settings = load_settings(path, environ={"CONFIGOR_CORE": "[a:1, b:2]"})
    assert settings.core == ["a:1", "b:2"]
    assert "does not exist" in settings.remarks[0]


def test_variables_of_the_published_loader() -> None:
    environ = {
        "CONFIGOR_CORE": "a:1",
        "CONFIGOR_HEARTBEATINTERVAL": "9",
        "CONFIGOR_CHECKONLYMINE": "F",
        "CONFIGOR_PIDFILE": "/x",
        "CONFIGOR_AUTH_PASSWORD": "012",
        "CONFIGOR_HEALTHCHECK_CACHETTL": "7",
        "CONFIGOR_LOG_FORWARDS": "[tcp://a:1]",
        "CONFIGOR_LOG_STDOUT": "x",
        "CONFIGOR_METRICS_STEP": "",
    }
    assert from_environment(AgentSettings, environ) == {
        "core": ["a:1"],
        "heartbeat_interval": 9,
        "check_only_mine": False,
        "pid": "/x",
        "auth": {"password": "012"},
        "healthcheck": {"cache_ttl": 7},
        "log": {"forwards": ["tcp://a:1"], "stdout": True},
    }
    assert from_environment(AgentSettings, {"CONFIGOR_ENV_PREFIX": "Z", "Z_API_ADDR": ":1", "CONFIGOR_PID": "x"}) == {
        "api": {"addr": ":1"}
    }


def test_they_decide_over_files_and_less_than_the_agents_own(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(CORE + "heartbeat_interval: 1\nmetrics: {step: 1}\n")
    environ = {
        "CONFIGOR_HEARTBEATINTERVAL": "2",
        "CONFIGOR_METRICS_STEP": "2",
        "ERU_AGENT_METRICS_STEP": "3",
    }
    settings = load_settings(str(path), environ=environ)
    assert (settings.heartbeat_interval, settings.metrics.step) == (2, 3)
    with pytest.raises(InvalidInput, match=r"CONFIGOR variables: heartbeat_interval is 'soon'"):
        load_settings(str(path), environ={"CONFIGOR_HEARTBEATINTERVAL": "soon"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("heartbeat_interval: 7.5", "heartbeat_interval is 7.5, expected a whole number"),
        ("log: {stdout: perhaps}", "log.stdout is 'perhaps', expected true or false"),
        ("metrics: 5", "metrics is 5, expected a section with keys"),
        ("auth: {password: [secret]}", r"auth.password is \*\*\*, expected text"),
        ("log: {forwards: {a: b}}", "log.forwards is {'a': 'b'}, expected a list"),
        ("core: [[a]]", r"core\[0\] is \['a'\], expected text"),
    ],
)
def test_what_is_wrong_is_said_with_key_value_and_expectation(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_settings(text)


def test_text_stays_as_it_is_written_and_only_the_first_document_counts() -> None:
    settings = parse_settings("auth: {username: 1, password: 0123}\ncore: a:1, b:2\npid: 5\n---\nhostname: other\n")
    assert (settings.auth.username, settings.auth.password, settings.pid) == ("1", "0123", "5")
    assert (settings.core, settings.hostname) == (["a:1", "b:2"], "")


def test_each_node_has_a_state_directory_of_its_own() -> None:
    one, other = (load_settings(None, {"core-endpoint": "a:1", "hostname": name}) for name in ("n/1", "n2"))
    assert (one.state_dir, other.state_dir) == ("/var/lib/eru/agent/nodes/n%2F1", "/var/lib/eru/agent/nodes/n2")


async def test_an_agent_waits_for_the_one_before_it_and_takes_over_state_and_pid_file(tmp_path: Path) -> None:
    before, after = StateDir(str(tmp_path)), StateDir(str(tmp_path))
    path = tmp_path / "pid"
    old, new = PidFile(str(path)), PidFile(str(path))
    await before.claim(WORLD)
    assert await old.claim(WORLD)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (str(os.getpid()), 0o600)
    claims = asyncio.gather(after.claim(WORLD), new.claim(WORLD))
    await asyncio.sleep(state.POLL_S)
    assert not claims.done()
    old.remove()
    before.close()
    assert (await claims)[1]
    assert "pid" in os.listdir(tmp_path), "the new one's, not the old one's that was removed"
    new.remove()
    assert "pid" not in os.listdir(tmp_path)
    after.close()


async def test_a_pid_file_of_another_living_agent_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "pid")
    first, second = PidFile(path), PidFile(path)
    assert await first.claim(WORLD)
    assert not await second.claim(WORLD)
    second.remove()
    assert "pid" in os.listdir(tmp_path)
    first.remove()
    with pytest.raises(InvalidInput, match=r"pid file .*/none/pid cannot be written"):
        await PidFile(str(tmp_path / "none" / "pid")).claim(WORLD)


def test_flags_in_the_published_spelling(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(CORE)
    shown = CliRunner().invoke(
        command,
        ["-config", str(path), "-check-only-mine=true", "-log-forwards=tcp://a:1", "--hostname", "n", "-check-config"],
    )
    assert shown.exit_code == 0, shown.output
    settings = parse_settings(shown.output)
    assert (settings.check_only_mine, settings.log.forwards, settings.hostname) == (True, ["tcp://a:1"], "n")
    shown = CliRunner().invoke(command, ["--config", str(path), "--check-only-mine=false", "--check-config"])
    assert not parse_settings(shown.output).check_only_mine
    for flag in ("-v", "-version", "--version"):
        assert CliRunner().invoke(command, [flag]).output.startswith("Version:        ")
