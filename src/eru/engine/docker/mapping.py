"""A CreateSpec as the body of Docker's container create. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from eru.engine.contract import CreateSpec, EngineLimits
from eru.engine.docker.limits import create_limits, merged, size
from eru.engine.docker.settings import DockerSettings
from eru.model.errors import InvalidInput

LOG_BUFFER = "4m"
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_NO_TAG_DRIVERS = ("none", "local")


class Ulimit(msgspec.Struct, frozen=True, rename="pascal"):
    """One entry of raw_args `ulimits`."""

    name: str
    soft: int
    hard: int


class DeviceRequest(msgspec.Struct, frozen=True, rename="pascal"):
    """One entry of raw_args `device_requests`: Docker's own form, for GPUs. `count` -1: all."""

    driver: str = ""
    count: int = 0
    device_ids: list[str] = msgspec.field(default_factory=list, name="DeviceIDs")
    capabilities: list[list[str]] = []
    options: dict[str, str] = {}


class RawArgs(msgspec.Struct, frozen=True, kw_only=True):
    """What a deploy may pass through to Docker. Other keys are ignored."""

    pid_mod: str = ""
    storage_opt: dict[str, str] = {}
    cap_add: list[str] = []
    cap_drop: list[str] = []
    ulimits: list[Ulimit] = []
    runtime: str = ""
    device_requests: list[DeviceRequest] = []


@dataclass(frozen=True, slots=True)
class Mapped:
    """The body of the create call, and the networks to join after it: (name, address)."""

    body: dict[str, Any]
    more_networks: list[tuple[str, str]] = field(default_factory=list)


def map_create(spec: CreateSpec, limits: EngineLimits, settings: DockerSettings, node_ip: str) -> Mapped:
    """Raises InvalidInput naming the field that cannot be mapped."""
    if not spec.image:
        raise InvalidInput("image is empty")
    raw = _raw_args(spec.raw_args)
    params = merged(spec.params)
    env = [*spec.env, f"ERU_NODE_IP={node_ip}"]
    binds, mounted = _volumes(params.get("volumes") or [], env)
    labels = dict(spec.labels)
    mode, endpoints, more = _networks(spec.networks, labels, limits.network_mode)
    host: dict[str, Any] = {
        "Binds": binds,
        "NetworkMode": mode,
        "RestartPolicy": _restart(spec.restart),
        "LogConfig": _log(spec, settings),
        "ExtraHosts": spec.extra_hosts,
        "CapDrop": raw.cap_drop,
        "CapAdd": raw.cap_add,
        "Ulimits": _ulimits(raw, limits),
        **create_limits(params, limits),
    }
    if mode != "host":
        host["Dns"] = spec.dns or ([node_ip] if limits.use_local_dns and node_ip else [])
        host["Sysctls"] = spec.sysctls
    if spec.privileged:
        host["Privileged"] = True
        host["CapAdd"] = [*raw.cap_add, *(["SYS_ADMIN"] if "SYS_ADMIN" not in raw.cap_add else [])]
    if raw.pid_mod:
        host["PidMode"] = raw.pid_mod
    if raw.runtime:
        host["Runtime"] = raw.runtime
    if raw.device_requests:
        host["DeviceRequests"] = msgspec.to_builtins(raw.device_requests)
    if storage := _storage_opt(params, raw):
        host["StorageOpt"] = storage
    body: dict[str, Any] = {
        "Image": spec.image,
        "Env": env,
        "Labels": labels,
        "User": spec.user or ("0" if spec.privileged else ""),  # by number: an image may lack /etc/passwd
        "OpenStdin": spec.open_stdin,
        "StdinOnce": spec.open_stdin and not spec.tty,  # its end is the end of the one who sends it
        "Tty": spec.open_stdin and spec.tty,
        "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": endpoints},
    }
    if spec.commands:
        body["Cmd"] = spec.commands
    if spec.dir:
        body["WorkingDir"] = spec.dir
    if mounted:
        body["Volumes"] = {path: {} for path in mounted}
    if mode == "bridge" and spec.publish:
        body["ExposedPorts"], host["PortBindings"] = _publish(spec.publish)
    return Mapped(body, more)


def _raw_args(raw: Mapping[str, Any]) -> RawArgs:
    try:
        return msgspec.convert(dict(raw), RawArgs, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"raw_args: {error}") from error


def _volumes(volumes: Sequence[str], env: Sequence[str]) -> tuple[list[str], list[str]]:
    """(binds, paths inside) of `src:dst[:flags[:...]]`; variables come from the workload's env."""
    values = dict(entry.split("=", 1) for entry in env if "=" in entry)
    binds, mounted = [], []
    for volume in volumes:
        parts = _VARIABLE.sub(lambda match: values.get(match[1] or match[2], ""), volume).split(":")
        if len(parts) < 2 or not parts[0] or not parts[1]:
            raise InvalidInput(f"volume {volume!r} must be of the form source:destination[:flags]")
        flags = _bind_flags(parts[2]) if len(parts) > 2 else "rw"
        binds.append(f"{parts[0]}:{parts[1]}:{flags}")
        mounted.append(parts[1])
    return binds, mounted


def _bind_flags(flags: str) -> str:
    """Docker knows words (`ro`, `rw`, `rshared`, `z`); Eru's own letters are r, w, o and m, in any order."""
    if flags and set(flags) <= set("rwom"):
        return "rw" if "w" in flags else "ro"
    return flags or "rw"


def _networks(
    wanted: Mapping[str, str], labels: dict[str, str], default: str
) -> tuple[str, dict[str, Any], list[tuple[str, str]]]:
    """(network mode, its endpoint, networks to join later), by name so that it never depends on chance."""
    mode = ""
    endpoints: dict[str, Any] = {}
    more: list[tuple[str, str]] = []
    for name in sorted(wanted):
        address = _ipv4(name, wanted[name]) if name != "host" else ""
        if address and labels.get("cni") == "1":
            labels["ipv4"] = address
            mode = mode or name
        elif mode:
            more.append((name, address))
        else:
            mode = name
            if name != "none":
                endpoints[name] = endpoint(address)
    return mode or default, endpoints, more


def _ipv4(network: str, address: str) -> str:
    if not address:
        return ""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        raise InvalidInput(f"network {network}: {address!r} is not an IP address") from None


def endpoint(ipv4: str, ipv6: str = "") -> dict[str, Any]:
    """An endpoint's settings, with fixed addresses where given."""
    fixed = {name: value for name, value in (("IPv4Address", ipv4), ("IPv6Address", ipv6)) if value}
    return {"IPAMConfig": fixed} if fixed else {}


def _publish(ports: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(exposed, bound) of `port`, `port/proto` and `hostport:port`."""
    exposed: dict[str, Any] = {}
    bound: dict[str, Any] = {}
    for entry in ports:
        rest, _, proto = entry.partition("/")
        outside, _, inside = rest.rpartition(":")
        outside = outside or inside
        if not all(number.isdigit() and 0 < int(number) < 65536 for number in (inside, outside)):
            raise InvalidInput(f"publish {entry!r} must be a port from 1 to 65535")
        key = f"{inside}/{proto or 'tcp'}"
        exposed[key] = {}
        bound[key] = [{"HostPort": outside}]
    return exposed, bound


def _restart(restart: str) -> dict[str, Any]:
    policy, _, rest = restart.partition(":")
    retries = rest.rpartition(":")[2]
    fields: dict[str, Any] = {"Name": policy or "no"}
    if policy == "on-failure" and retries:
        if not retries.isdigit():
            raise InvalidInput(f"restart {restart!r}: {retries!r} is not a number of retries")
        fields["MaximumRetryCount"] = int(retries)
    return fields


def _log(spec: CreateSpec, settings: DockerSettings) -> dict[str, Any]:
    type, config = "", {}
    if spec.log is not None:
        type, config = spec.log.type, dict(spec.log.config)
    if spec.debug:
        type, config = settings.log.type, {**config, **settings.log.config}
    if spec.lambda_:
        return {"Type": "json-file", "Config": {}}  # its output is read back whole, so none may be dropped
    if type == "none":
        return {"Type": "none", "Config": {}}
    config = {**config, "mode": "non-blocking", "max-buffer-size": LOG_BUFFER}
    if type not in _NO_TAG_DRIVERS:
        config["tag"] = f"{spec.name} {{{{.ID}}}}"
    return {"Type": type, "Config": config}


def _ulimits(raw: RawArgs, limits: EngineLimits) -> list[dict[str, Any]]:
    if raw.ulimits:
        return [{"Name": entry.name, "Soft": entry.soft, "Hard": entry.hard} for entry in raw.ulimits]
    if limits.nofile_soft <= 0 and limits.nofile_hard <= 0:
        return []
    hard = limits.nofile_hard or limits.nofile_soft
    return [{"Name": "nofile", "Soft": limits.nofile_soft or hard, "Hard": hard}]


def _storage_opt(params: Mapping[str, Any], raw: RawArgs) -> dict[str, str]:
    options = dict(raw.storage_opt)
    storage = int(params.get("storage") or 0)
    if storage > 0:
        parts = [volume.split(":") for volume in params.get("volumes") or []]
        own = storage - sum(size(fields[3]) for fields in parts if len(fields) > 3)
        if own > 0:
            options.setdefault("size", str(own))
    return options
