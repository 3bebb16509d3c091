"""core.yaml: published keys, the environment, and what is said about mistakes."""

from pathlib import Path

import pytest

from eru.config import CoreConfig, RegistryAuth, listen_address, load_core
from eru.core.settings import CoreSettings
from eru.lib.settings import shown
from eru.model.errors import InvalidInput
from eru.roots.core_parts import core_settings, resource_settings


def written(folder: Path, text: str) -> Path:
    path = folder / "core.yaml"
    path.write_text(text)
    return path


def test_without_a_file_everything_has_a_default_and_that_is_said(tmp_path: Path) -> None:
    loaded = load_core(tmp_path / "core.yaml", {})
    assert loaded.settings.store == "embedded"
    assert loaded.settings.bind == "127.0.0.1:5001"
    assert len(loaded.warnings) == 1
    assert "does not exist" in loaded.warnings[0]


def test_published_keys_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
bind: ":5001"
lock_timeout: 1m30s
etcd:
  machines: ["http://10.0.0.1:2379", "http://10.0.0.2:2379"]
  prefix: /mine
grpc: {service_discovery_interval: 5s, max_recv_msg_size: 1000}
docker: {network_mode: bridge, auths: {hub.example: {username: me, password: hidden}}}
""",
    )
    loaded = load_core(path, {})
    config = loaded.settings
    assert loaded.warnings == []
    assert (config.bind, config.lock_timeout, config.store) == ("[::]:5001", 90.0, "etcd")
    assert config.etcd.machines == ["http://10.0.0.1:2379", "http://10.0.0.2:2379"]
    assert config.etcd.prefix == "/mine"
    assert (config.grpc.service_discovery_interval, config.grpc.max_recv_msg_size) == (5.0, 1000)
    assert config.docker.auths["hub.example"].password == "hidden"


def test_one_value_is_taken_where_a_list_is_expected(tmp_path: Path) -> None:
    assert load_core(written(tmp_path, "etcd: {machines: 10.0.0.1:2379}"), {}).settings.etcd.machines == [
        "10.0.0.1:2379"
    ]


def test_unquoted_words_are_text_where_text_is_wanted(tmp_path: Path) -> None:
    text = """
auth: {username: 007, password: 0123}
docker: {hub: 2026-11-21, auths: {registry: {username: yes, password: 1e5}}}
grpc: {max_concurrent_streams: 0x10}
probe_target: 8.80
"""
    config = load_core(written(tmp_path, text), {}).settings
    assert (config.auth.username, config.auth.password) == ("007", "0123")
    assert config.docker.hub == "2026-11-21"
    registry = config.docker.auths["registry"]
    assert (registry.username, registry.password) == ("yes", "1e5")
    assert config.grpc.max_concurrent_streams == 16
    assert config.probe_target == "8.80"


def test_the_environment_wins_in_the_published_and_in_the_plain_spelling(tmp_path: Path) -> None:
    path = written(tmp_path, "bind: 127.0.0.1:1\nconnection_timeout: 1s")
    environ = {
        "CONFIGOR_BIND": "127.0.0.1:2",
        "CONFIGOR_CONNECTIONTIMEOUT": "2s",
        "CONFIGOR_GLOBAL_TIMEOUT": "3s",
        "CONFIGOR_ETCD_MACHINES": "[a:1, b:2]",
        "CONFIGOR_DOCKER_APIVERSION": "1.40",
        "CONFIGOR_GRPCCONFIG_MAXRECVMSGSIZE": "7",
        "CONFIGOR_AUTH_PASSWORD": "0123",
    }
    config = load_core(path, environ).settings
    assert (config.bind, config.connection_timeout, config.global_timeout) == ("127.0.0.1:2", 2.0, 3.0)
    assert config.etcd.machines == ["a:1", "b:2"]
    assert config.docker.version == "1.40"
    assert config.grpc.max_recv_msg_size == 7
    assert config.auth.password == "0123"


def test_a_file_for_the_stage_lies_over_the_main_file(tmp_path: Path) -> None:
    path = written(tmp_path, "docker: {network_mode: none, hub: one}")
    (tmp_path / "core.production.yaml").write_text("docker: {hub: two}")
    docker = load_core(path, {"CONFIGOR_ENV": "production"}).settings.docker
    assert (docker.network_mode, docker.hub) == ("none", "two")


def test_unknown_keys_are_warned_about_once_each_and_harmless(tmp_path: Path) -> None:
    loaded = load_core(written(tmp_path, "colour: red\ndocker: {auth: {username: me}}\nlog_level: debug"), {})
    assert [line.split(": ", 1)[1] for line in loaded.warnings] == [
        "colour is not a known key and is ignored",
        "docker.auth is not a known key and is ignored",
    ]
    assert loaded.settings.log.level == "debug"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lock_timeout: soon", "lock_timeout is 'soon', expected a duration such as 30s or 1m30s"),
        ("max_concurrency: many", "max_concurrency is 'many', expected a whole number"),
        ("etcd: {machines: {a: b}}", "etcd.machines is [{'a': 'b'}], expected a list of text"),
        ("docker: bridge", "docker is 'bridge', expected a section with keys of its own"),
        ("store: redis", "store is 'redis', expected one of embedded, etcd, memory"),
        ("store: etcd", "etcd.machines is empty"),
        ("bind: here", "bind is 'here', expected HOST:PORT"),
        ("bind: 127.0.0.1:70000", "bind is '127.0.0.1:70000', expected HOST:PORT"),
        ("tls: {cert: a.pem}", "tls.cert and tls.key belong together"),
        ("auth: {password: [secret]}", "auth.password is ***, expected text"),
        ("- a list", "must hold keys and values"),
        ("a: b: c", "is not valid YAML"),
        ("max_concurrency: 0", "max_concurrency is 0, expected 1 or more"),
        ("scheduler: {max_deploy_count: -1}", "scheduler.max_deploy_count is -1, expected 1 or more"),
        ("log: {max_age: -1}", "log.max_age is -1, expected 0 or more"),
        (
            "grpc: {service_heartbeat_interval: 1s}",
            "grpc.service_heartbeat_interval is 1s, expected 3s or more",
        ),
        ("global_timeout: 0", "global_timeout is 0s, expected more than 0"),
    ],
)
def test_a_mistake_is_one_sentence_with_path_value_and_expectation(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InvalidInput) as caught:
        load_core(path, {})
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    config = CoreConfig(sentry_dsn="https://hidden@host/1")
    config.auth.password = "hidden"
    config.etcd.auth.password = "hidden"
    config.docker.auths = {"hub": RegistryAuth(username="me", password="hidden")}
    assert "hidden" not in str(shown(config))


@pytest.mark.parametrize(("text", "address"), [("5001", "[::]:5001"), (":5001", "[::]:5001"), ("h:1", "h:1")])
def test_listen_addresses(text: str, address: str) -> None:
    assert listen_address(text, "bind") == address


@pytest.mark.parametrize("text", ["unix:/run/eru/core.sock", "unix:///run/eru/core.sock"])
def test_a_socket_to_listen_on(text: str, tmp_path: Path) -> None:
    assert load_core(written(tmp_path, f"bind: {text}"), {}).settings.bind == "unix:/run/eru/core.sock"


def test_a_socket_needs_a_whole_path(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected unix: and an absolute path"):
        load_core(written(tmp_path, "bind: unix:core.sock"), {})


def test_keys_that_change_nothing_are_named_in_one_line(tmp_path: Path) -> None:
    path = written(tmp_path, "ha_keepalive_interval: 16s\nredis: {addr: a, db: 1}\ndocker: {version: '1.32', hub: h}")
    [said] = load_core(path, {}).warnings
    assert "without effect here: ha_keepalive_interval (who leads" in said
    assert "redis.addr" in said
    assert "docker.version" in said
    assert "hub" not in said


@pytest.mark.parametrize("text", ["/eru2", "eru2", "/eru2/", "eru2/"])
def test_a_prefix_however_it_is_written(text: str, tmp_path: Path) -> None:
    assert load_core(written(tmp_path, f"etcd: {{prefix: {text}}}"), {}).settings.etcd.prefix == "/eru2"


def test_a_prefix_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"etcd\.prefix is empty"):
        load_core(written(tmp_path, "etcd: {prefix: /}"), {})


def test_a_key_for_sources_that_cannot_be_read_is_told_at_the_start(tmp_path: Path) -> None:
    path = written(tmp_path, f"git: {{private_key: {tmp_path}/key}}")
    assert any(f"git.private_key {tmp_path}/key cannot be read" in said for said in load_core(path, {}).warnings)
    (tmp_path / "key").write_text("secret")
    assert load_core(path, {}).warnings == []


def test_what_the_bounds_of_the_file_become(tmp_path: Path) -> None:
    text = "max_concurrency: 8\nscheduler: {max_deploy_count: 5}\ngrpc: {service_heartbeat_interval: 4500ms}\n"
    text += "resource_plugin: {whitelist: [bandwidth]}"
    config = load_core(written(tmp_path, text), {}).settings
    told = core_settings(config, "id", "address")
    assert (told.engine_parallel_max, told.engine_node_parallel_max, told.deploy_count_max) == (8, 8, 5)
    assert told.session_ttl_s == 5
    assert resource_settings(config).plugins_wanted == {"bandwidth"}
    unbound = core_settings(CoreConfig(), "id", "address")
    plain = CoreSettings()
    for name in ("engine_parallel_max", "engine_node_parallel_max", "deploy_count_max", "session_ttl_s"):
        assert getattr(unbound, name) == getattr(plain, name), name
