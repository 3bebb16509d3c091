"""agent.yaml, flags and environment."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from eru.agent.api import listen_address
from eru.agent.settings import (
    ApiSettings,
    checked,
    load_settings,
    parse_duration,
    parse_settings,
    parse_size,
    unknown_forward,
)
from eru.model.errors import InvalidInput

PUBLISHED = """
pid: /tmp/agent.pid
core: [127.0.0.1:5001, 127.0.0.1:5002]
heartbeat_interval: 120
check_only_mine: false
store: grpc
runtime: docker
auth: {username: username, password: password}
docker: {endpoint: "unix:///var/run/docker.sock"}
yavirt:
  endpoint: grpc://127.0.0.1:9697
  skip_guest_report_regexps: [".+002"]
metrics: {step: 30, transfers: ["127.0.0.1:8125"]}
api: {addr: "127.0.0.1:12345"}
log:
  forwards: [tcp://127.0.0.1:5144]
  stdout: false
healthcheck: {interval: 120, timeout: 10, cache_ttl: 300, enable_selfmon: true}
global_connection_timeout: 15s
kv: etcd
"""


def test_published_file_is_read_unchanged() -> None:
    settings = checked(parse_settings(PUBLISHED))
    assert settings.core == ["127.0.0.1:5001", "127.0.0.1:5002"]
    assert (settings.heartbeat_interval, settings.timeout_s, settings.metrics.step) == (120, 15.0, 30)
    assert settings.log.forwards == ["tcp://127.0.0.1:5144"]
    assert settings.unknown_keys == ["healthcheck.enable_selfmon", "kv", "yavirt"]
    assert settings.hostname


def test_a_misspelt_key_is_named_with_the_one_that_was_meant() -> None:
    settings = parse_settings("core: a:1\nlog: {foward: [x]}\nregister: {labels: {any: thing}}\nheartbeat: 3\n")
    assert settings.unknown_keys == ["heartbeat", "log.foward (is log.forwards meant?)"]


def test_defaults_zeros_and_nulls() -> None:
    settings = checked(
        parse_settings("core: a:1\nhealthcheck: {interval: 0, timeout: null}\nheartbeat_interval: 0\nlog:\n")
    )
    assert (settings.healthcheck.interval, settings.healthcheck.timeout, settings.healthcheck.cache_ttl) == (
        60,
        10,
        300,
    )
    assert settings.heartbeat_interval == 0, "0 in the file means no heartbeat"
    assert settings.core == ["a:1"], "a scalar is taken for a list of one"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "core is empty"),
        ("core: [nowhere]", "'nowhere' is not of the form host:port"),
        ("core: [a:1]\nheartbeat_interval: soon", "heartbeat_interval"),
        ("core: [a:1]\nstore: redis", "store 'redis' is unknown"),
        ("core: [a:1]\nlog_level: loud", "log_level 'loud' is unknown, expected one of debug"),
        ("core: [a:1]\ndocker: {endpoint: /var/run/docker.sock}", "must start with unix:// or tcp://"),
        ("core: [a:1]\nmetrics: {transfers: [x]}", "metrics.transfers 'x'"),
        ("core: [a:1]\napi: {addr: web}", "api.addr 'web'"),
        ("core: [a:1]\nglobal_connection_timeout: 5x", "global_connection_timeout '5x' is not a duration"),
        ("core: [a:1]\nlog: {spool_max: huge}", "log.spool_max 'huge' is not a size"),
        ("- a\n- b", "must hold keys and values"),
        ("core: [a", "not valid YAML"),
    ],
)
def test_wrong_values_name_key_value_and_expectation(text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as failed:
        checked(parse_settings(text))
    assert words in str(failed.value)
    assert "\n" not in str(failed.value)


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("core: [file:1]\nhostname: in-file\nlog: {stdout: true}\nmetrics: {step: 7}\n")
    environ = {
        "ERU_AGENT_CORE_ENDPOINT": "env:1,env:2",
        "ERU_HOSTNAME": "in-env",
        "ERU_AGENT_LOG_STDOUT": "no",
        "ERU_AGENT_METRICS_STEP": "-3",
        "ERU_AGENT_CONFIG_PATH": str(file),
        "AGENT_IN_DOCKER": "1",
        "ERU_AGENT_EXPERIMENTAL_FILTER": "label",
    }
    flags: dict[str, Any] = {
        "hostname": "by-flag",
        "log-forwards": ("tcp://a:1,udp://b:2", "journal://"),
        "api-addr": None,
    }
    settings = load_settings(None, flags, environ)
    assert settings.core == ["env:1", "env:2"]
    assert settings.hostname == "by-flag"
    assert settings.log.stdout is False
    assert settings.metrics.step == 7, "not more than 0: left alone, as published"
    assert settings.log.forwards == ["tcp://a:1", "udp://b:2", "journal://"]
    assert (settings.proc_root, settings.filter_by_label) == ("/hostProc", True)


def test_a_named_file_must_exist() -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        load_settings("/nowhere/agent.yaml")


def test_secrets_are_masked() -> None:
    settings = parse_settings("core: [a:1]\nauth: {username: u, password: hunter2}\napi: {token: t0ken}")
    assert "hunter2" not in str(settings.masked())
    assert "t0ken" not in str(settings.masked())


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("1m30s", 90), ("250ms", 0.25), (3, 3), ("5000000000", 5), ("1.5h", 5400)]
)
def test_durations(text: str | int, seconds: float) -> None:
    assert parse_duration("x", text) == seconds


@pytest.mark.parametrize(("text", "size"), [("64KiB", 65536), ("1g", 2**30), (17, 17), ("2 MB", 2**21)])
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size("x", text) == size


def test_forwards_that_can_be_used() -> None:
    for good in (
        "tcp://a:1",
        "udp://[::1]:5",
        "journal://",
        "journal://any",
        "syslog://a:1",
        "file:///x",
        "__discard__",
    ):
        assert unknown_forward(good) is None, good
    for bad in ("a:1", "tcp://a", "file://x", "http://a:1"):
        assert unknown_forward(bad), bad


def test_an_address_without_host_is_loopback_unless_protected() -> None:
    assert listen_address(ApiSettings(addr=":12345")) == ("127.0.0.1", 12345)
    assert listen_address(ApiSettings(addr=":12345", token="x")) == ("0.0.0.0", 12345)
    assert listen_address(ApiSettings(addr="0.0.0.0:12345")) == ("0.0.0.0", 12345)


def test_in_a_container_the_node_is_the_one_that_core_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("core: a:1\n")
    named = {"ERU_NODE_NAME": "node-7"}
    inside = {**named, "AGENT_IN_DOCKER": "1"}
    assert load_settings(str(path), environ=inside).hostname == "node-7"
    assert load_settings(str(path), environ=named).hostname == socket.gethostname()
    assert load_settings(str(path), {"hostname": "other"}, inside).hostname == "other"
    path.write_text("core: a:1\nhostname: written\n")
    assert load_settings(str(path), environ=inside).hostname == "written"
