"""What can be known of this machine: its name, its engine's socket, what that engine can grant."""

from __future__ import annotations

import grp
import os
import pwd
import re
import resource
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

from eru.model.errors import EngineRefused, EngineUnreachable

NOFILE_WANTED = 65535
_CAP_SYS_RESOURCE = 24  # bit in the capability sets


def node_name() -> str:
    """The host's short name, fit for a node."""
    name = re.sub(r"[^A-Za-z0-9_.\-]", "-", socket.gethostname()).lstrip("-._")
    return name or "node"


def engine_endpoint(environ: Mapping[str, str] = os.environ) -> str:
    """DOCKER_HOST, else Docker's usual socket."""
    return environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def check_socket(endpoint: str) -> None:
    """For an engine on a Unix socket: raise EngineError with what to type when it cannot be used."""
    if not endpoint.startswith("unix://"):
        return
    path = endpoint.removeprefix("unix://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(2)
        try:
            connection.connect(path)
        except PermissionError:
            raise EngineRefused(_no_permission(path)) from None
        except OSError as error:
            raise EngineUnreachable(
                f"no Docker Engine answers on {path}: {error.strerror or error}; "
                "start it (sudo systemctl start docker, or sudo dockerd &), or name another one with --engine"
            ) from error


def _no_permission(path: str) -> str:
    user = pwd.getpwuid(os.geteuid()).pw_name
    try:
        group = grp.getgrgid(os.stat(path).st_gid).gr_name
    except (OSError, KeyError):
        group = "docker"
    return f"{user} may not use {path}; type: sudo usermod -aG {group} {user}   and log in again"


def fitting_nofile(endpoint: str) -> int:
    """The limit of open files that workloads on this engine can be given, at most `NOFILE_WANTED`.

    An engine without the capability to raise limits refuses any container
    that asks for more than the engine has itself.
    """
    if not endpoint.startswith("unix://"):
        return NOFILE_WANTED
    pid = _peer(endpoint.removeprefix("unix://"))
    if pid is None or _may_raise_limits(pid):
        return NOFILE_WANTED
    return min(NOFILE_WANTED, _hard_nofile(pid))


def _peer(path: str) -> int | None:
    """The process that listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(2)
        try:
            connection.connect(path)
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
    pid = int(struct.unpack("3i", raw)[0])
    return pid or None


def _may_raise_limits(pid: int) -> bool:
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", _proc(pid, "status"), re.MULTILINE)
    return match is None or bool(int(match[1], 16) >> _CAP_SYS_RESOURCE & 1)


def _hard_nofile(pid: int) -> int:
    match = re.search(r"^Max open files\s+\S+\s+(\S+)", _proc(pid, "limits"), re.MULTILINE)
    if match is None:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return NOFILE_WANTED if match[1] == "unlimited" else int(match[1])


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""
