"""Settings of a core process: the published core.yaml, and a few keys of our own.

Every published key is read; those that this implementation has no use for
(they belong to mechanisms it does not have) are accepted, named once at the
start when a file gives them, and explained in docs/configuration.md.
Precedence: environment, then file, then defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from eru.lib.settings import Duration, Loaded, Secret, SettingsError, build, overrides, read_yaml
from eru.model.errors import InvalidInput

DEFAULT_PATH = Path("/etc/eru/core.yaml")
HEARTBEAT_LEAST_S = 3.0  # shorter, and a busy machine loses its registration
UNIX_PATH_BYTES_MAX = 107
STORES = ("embedded", "etcd", "memory")


class Auth(msgspec.Struct, kw_only=True):
    """What clients must send with each call; empty user name: nothing."""

    username: str = ""
    password: Secret = ""


class GRPC(msgspec.Struct, kw_only=True):
    """Bounds and intervals of the port."""

    max_concurrent_streams: int = 100
    max_recv_msg_size: int = 20 * 1024 * 1024  # bytes
    service_discovery_interval: Duration = 15.0
    service_heartbeat_interval: Duration = 10.0


class Git(msgspec.Struct, kw_only=True):
    """Where image builds get sources from."""

    scm_type: str = ""
    private_key: str = ""  # a file
    token: Secret = ""
    clone_timeout: Duration = 300.0


class Etcd(msgspec.Struct, kw_only=True):
    """The cluster's store."""

    machines: list[str] = []
    prefix: str = "/eru"
    lock_prefix: str = "__lock__/eru"
    ca: str = ""  # a file, as are the next two
    key: str = ""
    cert: str = ""
    auth: Auth = msgspec.field(default_factory=Auth)


class Redis(msgspec.Struct, kw_only=True):
    """Accepted, without use: the store is etcd or embedded."""

    addr: str = "localhost:6379"
    lock_prefix: str = "/lock"
    db: int = 0


class DockerLog(msgspec.Struct, kw_only=True):
    """Log driver of workloads that are deployed with debug."""

    type: str = "journald"
    config: dict[str, str] = {}


class RegistryAuth(msgspec.Struct, kw_only=True):
    """Login of one image registry."""

    username: str = ""
    password: Secret = ""


class Docker(msgspec.Struct, kw_only=True):
    """Defaults for Docker engines. `nofile` and below: ours."""

    version: str = "1.32"
    network_mode: str = "host"
    use_local_dns: bool = False
    log: DockerLog = msgspec.field(default_factory=DockerLog)
    hub: str = ""
    namespace: str = ""
    build_pod: str = ""
    auths: dict[str, RegistryAuth] = {}
    nofile: int = 65535  # open files per workload; 0: what the engine gives by itself
    memory_floor: int = 6 * 1024 * 1024  # bytes; the least limit and reservation the engine starts
    tls_check_hostname: bool = True  # false: certificates of the node's CA for any address, said in the log
    start_parallel: int = 32  # containers started at the same time per engine
    start_burst_cpu: float = 0.0  # cores a workload may use while it starts, if it is granted less; 0: off


class Virt(msgspec.Struct, kw_only=True):
    """Accepted, without use."""

    version: str = "v1"


class Systemd(msgspec.Struct, kw_only=True):
    """Accepted, without use."""

    runtime: str = "io.containerd.eru.v2"


class Scheduler(msgspec.Struct, kw_only=True):
    """How processor cores are cut: `sharebase` pieces each; at most `maxshare` cores may be shared (-1: all)."""

    maxshare: int = -1
    sharebase: int = 100
    max_deploy_count: int = 1_000_000  # instances of one request


class ResourcePlugin(msgspec.Struct, kw_only=True):
    """External resource plugins: programs in `dir`."""

    dir: str = ""
    call_timeout: Duration = 30.0
    whitelist: list[str] = []


class Log(msgspec.Struct, kw_only=True):
    """Where the log goes; sizes in MB, ages in days."""

    level: str = "info"
    use_json: bool = False
    filename: str = ""
    maxsize: int = 500
    max_age: int = 28
    max_backups: int = 3


class TLS(msgspec.Struct, kw_only=True):
    """Ours. Encryption of the gRPC port: files. With `client_ca`, clients must show a certificate of it."""

    cert: str = ""
    key: str = ""
    client_ca: str = ""


class CoreConfig(msgspec.Struct, kw_only=True):
    """Everything a core process can be told. Keys as in the published core.yaml; `data_dir` and below: ours."""

    bind: str = "127.0.0.1:5001"
    lock_timeout: Duration = 30.0
    global_timeout: Duration = 300.0
    connection_timeout: Duration = 10.0
    ha_keepalive_interval: Duration = 16.0
    statsd: str = ""
    profile: str = ""
    cert_path: str = ""
    max_concurrency: int = 100_000
    store: str = ""
    sentry_dsn: Secret = ""
    probe_target: str = "8.8.8.8:80"
    wal_file: str = "core.wal"
    wal_open_timeout: Duration = 8.0
    auth: Auth = msgspec.field(default_factory=Auth)
    grpc: GRPC = msgspec.field(default_factory=GRPC)
    git: Git = msgspec.field(default_factory=Git)
    etcd: Etcd = msgspec.field(default_factory=Etcd)
    redis: Redis = msgspec.field(default_factory=Redis)
    docker: Docker = msgspec.field(default_factory=Docker)
    virt: Virt = msgspec.field(default_factory=Virt)
    systemd: Systemd = msgspec.field(default_factory=Systemd)
    scheduler: Scheduler = msgspec.field(default_factory=Scheduler)
    resource_plugin: ResourcePlugin = msgspec.field(default_factory=ResourcePlugin)
    log: Log = msgspec.field(default_factory=Log)

    data_dir: str = "/var/lib/eru/data"
    pid_file: str = ""
    identifier: str = ""  # label eru.coreid of what this cluster creates; empty: the store's own id
    advertise: str = ""  # host:port that other machines reach this core at; empty: found out
    drain: Duration = 30.0  # calls under way may finish for this long at shutdown
    tls: TLS = msgspec.field(default_factory=TLS)
    otlp_endpoint: str = ""  # OpenTelemetry collector, http://host:4318


# Spellings of environment variables in the published program where they do not follow from the key.
_PUBLISHED_NAMES = {
    "grpc.max_concurrent_streams": "GRPCCONFIG_MAXCONCURRENTSTREAMS",
    "grpc.max_recv_msg_size": "GRPCCONFIG_MAXRECVMSGSIZE",
    "grpc.service_discovery_interval": "GRPCCONFIG_SERVICEDISCOVERYPUSHINTERVAL",
    "grpc.service_heartbeat_interval": "GRPCCONFIG_SERVICEHEARTBEATINTERVAL",
    "docker.version": "DOCKER_APIVERSION",
    "docker.auths": "DOCKER_AUTHCONFIGS",
    "virt.version": "VIRT_APIVERSION",
}

# Published keys that change nothing here, with the reason; docs/configuration.md has the same list.
UNUSED = {
    "ha_keepalive_interval": "who leads does so by its registration, see grpc.service_heartbeat_interval",
    "cert_path": "certificates of nodes never touch the disk",
    "wal_file": "what is under way is noted in the store",
    "wal_open_timeout": "what is under way is noted in the store",
    "etcd.lock_prefix": "there are no locks",
    "redis.addr": "the store is etcd or embedded",
    "redis.lock_prefix": "the store is etcd or embedded",
    "redis.db": "the store is etcd or embedded",
    "docker.version": "the API version is negotiated",
    "virt.version": "there is no such engine",
    "systemd.runtime": "there is no such engine",
}

# Keys that published samples show but the published program ignores; here they mean what their author meant.
_ALIASES = {("log_level",): ("log", "level")}


def load_core(path: Path, environ: Mapping[str, str] = os.environ) -> Loaded[CoreConfig]:
    """The settings in effect. A missing file is a warning. Raises InvalidInput."""
    warnings = []
    try:
        file = read_yaml(path)
        file_for_stage = _stage_file(path, environ)
    except FileNotFoundError:
        file, file_for_stage = {}, {}
        warnings.append(f"{path} does not exist, defaults and the environment are used")
    except SettingsError as error:
        raise InvalidInput(str(error)) from error
    prefix = environ.get("CONFIGOR_ENV_PREFIX") or "CONFIGOR"
    try:
        named = overrides(CoreConfig, environ, prefix, _PUBLISHED_NAMES)
        loaded = build(CoreConfig, _aliased(file), _aliased(file_for_stage), named, where=str(path))
    except SettingsError as error:
        raise InvalidInput(str(error)) from error
    config = loaded.settings
    _complete(config, path)
    warnings += [*loaded.warnings, *_unused(path, file, file_for_stage), *_unreadable(path, config)]
    return Loaded(config, warnings)


def _complete(config: CoreConfig, path: Path) -> None:
    """Fill what follows from other keys, and refuse what cannot work."""
    if not config.store:
        config.store = "etcd" if config.etcd.machines else "embedded"
    if config.store not in STORES:
        raise InvalidInput(f"{path}: store is {config.store!r}, expected one of {', '.join(STORES)}")
    if config.store == "etcd" and not config.etcd.machines:
        raise InvalidInput(f"{path}: store is etcd but etcd.machines is empty, expected addresses like 127.0.0.1:2379")
    config.etcd.prefix = "/" + config.etcd.prefix.strip("/")  # as published: however it is written
    if config.etcd.prefix == "/":
        raise InvalidInput(f"{path}: etcd.prefix is empty, expected a path such as /eru")
    if config.scheduler.sharebase < 1:
        raise InvalidInput(f"{path}: scheduler.sharebase is {config.scheduler.sharebase}, expected 1 or more")
    if bool(config.tls.cert) != bool(config.tls.key):
        raise InvalidInput(f"{path}: tls.cert and tls.key belong together, only one of them is given")
    if config.tls.client_ca and not config.tls.cert:
        raise InvalidInput(f"{path}: tls.client_ca is given without tls.cert and tls.key")
    if config.bind.startswith("unix:"):
        config.bind = _socket_path(config.bind, f"{path}: bind")
    else:
        config.bind = listen_address(config.bind, f"{path}: bind")
    if config.profile:
        config.profile = listen_address(config.profile, f"{path}: profile")
    for name, least, value in (
        ("max_concurrency", 1, config.max_concurrency),
        ("scheduler.max_deploy_count", 1, config.scheduler.max_deploy_count),
        ("log.max_age", 0, config.log.max_age),
    ):
        if value < least:
            raise InvalidInput(f"{path}: {name} is {value}, expected {least} or more")
    if config.grpc.service_heartbeat_interval < HEARTBEAT_LEAST_S:
        seconds = config.grpc.service_heartbeat_interval
        raise InvalidInput(
            f"{path}: grpc.service_heartbeat_interval is {seconds:g}s, expected {HEARTBEAT_LEAST_S:g}s or more"
        )
    for name, seconds in (("global_timeout", config.global_timeout), ("connection_timeout", config.connection_timeout)):
        if seconds <= 0:
            raise InvalidInput(f"{path}: {name} is {seconds:g}s, expected more than 0")


def _unreadable(path: Path, config: CoreConfig) -> list[str]:
    """A file that only a later request needs."""
    key = config.git.private_key
    if not key or os.access(key, os.R_OK):
        return []
    return [f"{path}: git.private_key {key} cannot be read: sources cannot be fetched over ssh until it can"]


def _unused(path: Path, *files: Mapping[str, Any]) -> list[str]:
    """One warning for all keys in the files that change nothing; sections of a file are shared with other programs."""
    given = []
    for key, why in UNUSED.items():
        section, _, name = key.rpartition(".")
        if any(name in (file.get(section) or {} if section else file) for file in files):
            given.append(f"{key} ({why})")
    return [f"{path}: keys without effect here: {', '.join(given)}"] if given else []


def listen_address(text: str, what: str) -> str:
    """`5001` and `:5001` listen everywhere, `host:5001` there. Raises InvalidInput."""
    host, _, port = text.strip().rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise InvalidInput(
            f"{what} is {text!r}, expected HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:5001"
        )
    return f"{host or '[::]'}:{port}"


def _socket_path(text: str, what: str) -> str:
    """`unix:/path`, also written `unix:///path`. Raises InvalidInput."""
    path = text.removeprefix("unix:")
    path = path.removeprefix("//") if path.startswith("///") else path
    if not path.startswith("/") or len(path.encode()) > UNIX_PATH_BYTES_MAX:
        raise InvalidInput(
            f"{what} is {text!r}, expected unix: and an absolute path of at most {UNIX_PATH_BYTES_MAX} bytes"
        )
    return f"unix:{path}"


def _stage_file(path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """`core.<stage>.yaml` beside `core.yaml`, where CONFIGOR_ENV names the stage."""
    stage = environ.get("CONFIGOR_ENV") or "development"
    try:
        return read_yaml(path.with_name(f"{path.stem}.{stage}{path.suffix}"))
    except FileNotFoundError:
        return {}


def _aliased(file: dict[str, Any]) -> dict[str, Any]:
    result = dict(file)
    for old, new in _ALIASES.items():
        if old[0] in result:
            value = result.pop(old[0])
            section = dict(result.get(new[0]) or {})
            section.setdefault(new[1], value)
            result[new[0]] = section
    return result
