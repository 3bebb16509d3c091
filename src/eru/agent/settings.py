"""The agent's settings: the published agent.yaml, its flags and environment, and our additions.

Order: built-in defaults, then the file and what lies over it (see
`settings_given`), then the environment, then flags.
Unknown keys in the file are tolerated and named once in the log. Keys that
the published agent does not know are marked *own* below; leaving them out
gives the published behaviour.
"""

from __future__ import annotations

import difflib
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from eru.agent.settings_given import explained, from_environment, lay_over, parse_given, read_given
from eru.model.errors import InvalidInput

DEFAULT_PATH = "/etc/eru/agent.yaml"
DISCARD = "__discard__"
STATE_DIRS = Path("/var/lib/eru/agent/nodes")  # one for each node whose agent was told no other
_FORWARD_SCHEMES = ("tcp", "udp", "journal", "syslog", "syslog+udp", "syslog+tcp", "file")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_LEVELS = {"debug", "info", "warn", "warning", "error", "fatal"}
_OTHER_LEVELS = {"trace": "debug", "panic": "fatal", "disabled": "fatal"}  # of the published program
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


class AuthSettings(msgspec.Struct, kw_only=True):
    """Name and password for core; empty name: none."""

    username: str = ""
    password: str = ""


class TlsSettings(msgspec.Struct, kw_only=True):
    """Own. Paths of PEM files; `ca` empty: no TLS."""

    ca: str = ""
    cert: str = ""
    key: str = ""


class DockerSettings(msgspec.Struct, kw_only=True):
    """`endpoint`: unix:///path or tcp://host:port. `tls` is own."""

    endpoint: str = "unix:///var/run/docker.sock"
    tls: TlsSettings = msgspec.field(default_factory=TlsSettings)


class MetricsSettings(msgspec.Struct, kw_only=True):
    """`step`: seconds between samples. `transfers`: statsd targets host:port."""

    step: int = 10
    transfers: list[str] = []


class ApiSettings(msgspec.Struct, kw_only=True):
    """`addr` empty: no HTTP API; `:port` is loopback unless `token` (own) is set."""

    addr: str = ""
    token: str = ""


class LogSettings(msgspec.Struct, kw_only=True):
    """Where log records go.

    Own: `line_max` bytes of one record's data, `spool_max` bytes kept on disk
    per forward while it is away, `line_max`/`spool_max` take 64KiB, 1GiB.
    """

    forwards: list[str] = []
    stdout: bool = False
    line_max: int | str = "1MiB"
    spool_max: int | str = "1GiB"

    def line_max_bytes(self) -> int:
        return parse_size("log.line_max", self.line_max)

    def spool_max_bytes(self) -> int:
        return parse_size("log.spool_max", self.spool_max)


class HealthSettings(msgspec.Struct, kw_only=True):
    """Seconds; 0 means the default. Own: `concurrency`, probes at the same time."""

    interval: int = 60
    timeout: int = 10
    cache_ttl: int = 300
    concurrency: int = 32


class RegisterSettings(msgspec.Struct, kw_only=True):
    """Own. With `podname` set the agent adds its node when core does not know it. `tls`: what core shows to Docker."""

    podname: str = ""
    endpoint: str = ""
    tls: TlsSettings = msgspec.field(default_factory=TlsSettings)
    labels: dict[str, str] = {}
    resources: dict[str, dict[str, Any]] = {}
    test: bool = False


class AgentSettings(msgspec.Struct, kw_only=True):
    """Everything one agent process is told. Durations are in seconds unless named otherwise."""

    pid: str = "/tmp/agent.pid"
    core: list[str] = []
    hostname: str = ""
    heartbeat_interval: int = 60
    check_only_mine: bool = False
    store: str = "grpc"
    runtime: str = "docker"
    auth: AuthSettings = msgspec.field(default_factory=AuthSettings)
    core_tls: TlsSettings = msgspec.field(default_factory=TlsSettings)
    docker: DockerSettings = msgspec.field(default_factory=DockerSettings)
    metrics: MetricsSettings = msgspec.field(default_factory=MetricsSettings)
    api: ApiSettings = msgspec.field(default_factory=ApiSettings)
    log: LogSettings = msgspec.field(default_factory=LogSettings)
    healthcheck: HealthSettings = msgspec.field(default_factory=HealthSettings)
    global_connection_timeout: int | float | str = "5s"
    register: RegisterSettings = msgspec.field(default_factory=RegisterSettings)
    state_dir: str = ""
    log_level: str = "info"
    in_container: bool = False
    filter_by_label: bool = False
    unknown_keys: list[str] = []
    remarks: list[str] = []

    @property
    def timeout_s(self) -> float:
        """Bound of one call to core or engine."""
        return parse_duration("global_connection_timeout", self.global_connection_timeout)

    @property
    def proc_root(self) -> str:
        """Where the host's /proc is seen."""
        return "/hostProc" if self.in_container else "/proc"

    def masked(self) -> dict[str, Any]:
        """For printing: without secrets."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        if shown["auth"]["password"]:
            shown["auth"]["password"] = "***"
        if shown["api"]["token"]:
            shown["api"]["token"] = "***"
        return shown


# Flag name -> (path in the settings, kind). The environment name is ERU_AGENT_<FLAG>.
_OVERRIDES: dict[str, tuple[str, str]] = {
    "log-level": ("log_level", "text"),
    "store": ("store", "text"),
    "core-endpoint": ("core", "list"),
    "core-username": ("auth.username", "text"),
    "core-password": ("auth.password", "text"),
    "runtime": ("runtime", "text"),
    "docker-endpoint": ("docker.endpoint", "text"),
    "metrics-step": ("metrics.step", "positive"),
    "metrics-transfers": ("metrics.transfers", "list"),
    "api-addr": ("api.addr", "text"),
    "api-token": ("api.token", "text"),
    "log-forwards": ("log.forwards", "list"),
    "log-stdout": ("log.stdout", "yes"),
    "pidfile": ("pid", "text"),
    "health-check-interval": ("healthcheck.interval", "positive"),
    "health-check-timeout": ("healthcheck.timeout", "positive"),
    "health-check-cache-ttl": ("healthcheck.cache_ttl", "positive"),
    "heartbeat-interval": ("heartbeat_interval", "positive"),
    "hostname": ("hostname", "text"),
    "check-only-mine": ("check_only_mine", "true"),
    "state-dir": ("state_dir", "text"),
}
_ENV_NAMES = {"hostname": "ERU_HOSTNAME"}
FLAGS = tuple(_OVERRIDES)


def parse_duration(field: str, value: int | float | str) -> float:
    """Seconds of `5s`, `1m30s`, `250ms`; a bare number is in seconds.

    The published agent reads a bare number as nanoseconds, which nobody means:
    numbers of at least a million are still taken as nanoseconds.
    Raises InvalidInput.
    """
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        parts = _DURATION.findall(text)
        if not parts or "".join(n + u for n, u in parts) != text:
            raise InvalidInput(f"{field} {text!r} is not a duration, write for example 5s or 1m30s") from None
        return sum(float(n) * _UNIT_S[u] for n, u in parts)
    if number < 0:
        raise InvalidInput(f"{field} {text!r} is negative, write for example 5s")
    return number / 1e9 if number >= 1_000_000 else number


def parse_size(field: str, value: int | str) -> int:
    """Bytes of `64KiB`, `1g` or a number. Raises InvalidInput."""
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise InvalidInput(f"{field} {value!r} is not a size, write for example 64MiB")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))


def load_settings(
    path: str | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> AgentSettings:
    """Settings from files, environment and flags (keys as in `FLAGS`), checked.

    `path` None: ERU_AGENT_CONFIG_PATH or the default path; a missing default
    file is fine as long as `core` comes from elsewhere; for a named one see `read_given`.
    Raises InvalidInput with the key, the value and what was expected.
    """
    environ = environ or {}
    chosen = path or environ.get("ERU_AGENT_CONFIG_PATH") or DEFAULT_PATH
    required = bool(path or environ.get("ERU_AGENT_CONFIG_PATH"))
    given, remark = read_given(AgentSettings, chosen, required, environ)
    named = from_environment(AgentSettings, environ)
    lay_over(given, named)
    settings = _typed(given, f"{chosen} and CONFIGOR variables" if named else chosen)
    settings.remarks = [remark] if remark else []
    for flag in FLAGS:
        name = _ENV_NAMES.get(flag, "ERU_AGENT_" + flag.upper().replace("-", "_"))
        if environ.get(name):
            _override(settings, name, flag, environ[name])
    for flag, value in (flags or {}).items():
        if value not in (None, "", (), [], False):
            _override(settings, f"--{flag}", flag, value)
    settings.in_container = bool(environ.get("AGENT_IN_DOCKER"))
    if settings.in_container:  # a workload is told by core which node it is on: one file then serves all nodes
        settings.hostname = settings.hostname or environ.get("ERU_NODE_NAME", "")
    settings.filter_by_label = environ.get("ERU_AGENT_EXPERIMENTAL_FILTER") == "label"
    return checked(settings)


def checked(settings: AgentSettings) -> AgentSettings:
    """The settings with defaults filled in. Raises InvalidInput for what cannot work."""
    settings.hostname = settings.hostname or socket.gethostname()
    settings.pid = settings.pid or "./agent.pid"
    settings.state_dir = settings.state_dir or str(STATE_DIRS / f"{quote(settings.hostname, safe='')}")
    level = settings.log_level.lower()
    settings.log_level = _OTHER_LEVELS.get(level, level)
    if settings.log_level not in _LEVELS:
        raise InvalidInput(f"log_level {level!r} is unknown, expected one of {', '.join(sorted(_LEVELS))}")
    health = settings.healthcheck
    health.interval = health.interval if health.interval > 0 else 60
    health.timeout = health.timeout if health.timeout > 0 else 10
    health.cache_ttl = health.cache_ttl if health.cache_ttl > 0 else 300
    health.concurrency = health.concurrency if health.concurrency > 0 else 32
    settings.metrics.step = settings.metrics.step if settings.metrics.step > 0 else 10
    if not settings.core:
        raise InvalidInput("core is empty: list at least one core address, for example core: [127.0.0.1:5001]")
    for address in settings.core:
        if not _host_port(_bare(address)):
            raise InvalidInput(f"core address {address!r} is not of the form host:port")
    if settings.store != "grpc":
        raise InvalidInput(f"store {settings.store!r} is unknown, expected grpc")
    if settings.runtime != "docker":
        raise InvalidInput(f"runtime {settings.runtime!r} is unknown, expected docker")
    if not settings.docker.endpoint.startswith(("unix://", "tcp://", "http://", "https://")):
        raise InvalidInput(f"docker.endpoint {settings.docker.endpoint!r} must start with unix:// or tcp://")
    for target in settings.metrics.transfers:
        if not _host_port(target):
            raise InvalidInput(f"metrics.transfers {target!r} is not of the form host:port")
    if settings.api.addr and not re.fullmatch(r".*:\d+", settings.api.addr):
        raise InvalidInput(f"api.addr {settings.api.addr!r} is not of the form host:port or :port")
    if settings.timeout_s <= 0:
        raise InvalidInput("global_connection_timeout must be more than 0")
    settings.log.line_max_bytes()
    settings.log.spool_max_bytes()
    return settings


def unknown_forward(forward: str) -> str | None:
    """Why a forward cannot be used, or None. The published agent treats these as discard."""
    if forward == DISCARD:
        return None
    scheme, separator, rest = forward.partition("://")
    if not separator or scheme not in _FORWARD_SCHEMES:
        return f"log.forwards {forward!r}: scheme must be one of {', '.join(_FORWARD_SCHEMES)} or {DISCARD}"
    if scheme == "journal":
        return None
    if scheme == "file":
        return None if rest.startswith("/") else f"log.forwards {forward!r}: write file:///absolute/path"
    return None if _host_port(rest) else f"log.forwards {forward!r} is not of the form {scheme}://host:port"


def parse_settings(text: str, origin: str = "agent.yaml") -> AgentSettings:
    """Settings of a YAML text, unchecked. Raises InvalidInput naming the key."""
    return _typed(parse_given(AgentSettings, text, origin), origin)


def _typed(given: dict[str, Any], origin: str) -> AgentSettings:
    try:
        settings = msgspec.convert(given, AgentSettings, strict=False)
    except msgspec.ValidationError as error:
        raise explained(error, given, origin) from error
    settings.unknown_keys = sorted(_unknown(given, settings))
    return settings


def _unknown(given: dict[str, Any], group: msgspec.Struct, above: str = "") -> Iterator[str]:
    """Dotted names of keys that nothing reads, with the key that was probably meant."""
    for key, value in given.items():
        if key not in group.__struct_fields__:
            meant = difflib.get_close_matches(key, group.__struct_fields__, n=1, cutoff=0.75)
            yield above + key + (f" (is {above}{meant[0]} meant?)" if meant else "")
        elif isinstance(value, dict) and isinstance(inner := getattr(group, key), msgspec.Struct):
            yield from _unknown(value, inner, f"{above}{key}.")


def _override(settings: AgentSettings, origin: str, flag: str, value: Any) -> None:
    path, kind = _OVERRIDES[flag]
    target: Any = settings
    *groups, last = path.split(".")
    for group in groups:
        target = getattr(target, group)
    if kind == "list":
        texts = [value] if isinstance(value, str) else [str(item) for item in value]
        parts = [part.strip() for text in texts for part in text.split(",")]
        setattr(target, last, [part for part in parts if part])
    elif kind == "positive":
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise InvalidInput(f"{origin} {value!r} is not a whole number") from None
        if number > 0:
            setattr(target, last, number)
    elif kind == "yes":
        setattr(target, last, value is True or value == "yes")
    elif kind == "true":
        setattr(target, last, value is True or str(value).lower() in ("1", "true", "yes"))
    else:
        setattr(target, last, str(value))


def _bare(address: str) -> str:
    return address.partition("://")[2].lstrip("_/") if "://" in address else address


def _host_port(text: str) -> bool:
    return all(re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:/\s]*):\d{1,5}", part) for part in text.split(","))
