"""The two configuration files that `eru up` writes, meant to be read and edited by people."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from eru.roots.machine import engine_endpoint
from eru.roots.state import State


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `eru up` was asked for; None: not asked, keep what is written or take the default."""

    bind: str | None = None
    agent_bind: str | None = None
    engine: str | None = None
    pod: str | None = None
    node: str | None = None
    etcd: tuple[str, ...] = ()
    network: str | None = None


DEFAULT_BIND = "127.0.0.1:5001"
DEFAULT_AGENT_BIND = "127.0.0.1:12345"
DEFAULT_POD = "eru"
DEFAULT_NETWORK = "bridge"  # every instance has an address of its own, so many fit on one machine
HEARTBEAT_S = 10  # a dead agent shows after three of these
HEALTH_S = 5


def core_file(state: State, wanted: Wanted, identifier: str, nofile: int) -> str:
    """core.yaml for one machine."""
    keys: dict[str, object] = {
        "bind": wanted.bind or DEFAULT_BIND,
        "store": "etcd" if wanted.etcd else "embedded",
        "data_dir": str(state.data),
        "pid_file": str(state.core_pid),
        "identifier": identifier,
        "docker": {"network_mode": wanted.network or DEFAULT_NETWORK, "nofile": nofile},
        "log": {"level": "info"},
    }
    if wanted.etcd:
        keys["etcd"] = {"machines": list(wanted.etcd), "prefix": f"/eru-{identifier}"}
    notes = [
        "Written by `eru up`; kept as it is from then on. All keys: docs/configuration.md.",
        "After a change: eru down, eru up.",
        "identifier: label eru.coreid of the containers of this cluster.",
        "docker.nofile: the most open files that the Docker Engine of this machine can grant.",
    ]
    return _text(notes, keys)


def agent_file(state: State, wanted: Wanted, node: str, engine: str) -> str:
    """agent.yaml for one machine."""
    keys: dict[str, object] = {
        "pid": str(state.agent_pid),
        "core": [wanted.bind or DEFAULT_BIND],
        "hostname": node,
        "heartbeat_interval": HEARTBEAT_S,
        "check_only_mine": True,
        "docker": {"endpoint": engine},
        "api": {"addr": wanted.agent_bind or DEFAULT_AGENT_BIND},
        "healthcheck": {"interval": HEALTH_S, "timeout": HEALTH_S},
        "state_dir": str(state.agent_data),
    }
    return _text(["Written by `eru up`; kept as it is from then on. All keys: docs/configuration.md."], keys)


def written_engine(state: State) -> str:
    """The engine's endpoint as it was written for the agent; it may have been chosen with --engine."""
    with contextlib.suppress(OSError, yaml.YAMLError, KeyError, TypeError):
        return str(yaml.safe_load(state.agent_config.read_text())["docker"]["endpoint"])
    return engine_endpoint()


def written_node(state: State) -> str:
    """The node's name as it was written for the agent, or ""; it may have been chosen with --node."""
    with contextlib.suppress(OSError, yaml.YAMLError, KeyError, TypeError):
        return str(yaml.safe_load(state.agent_config.read_text())["hostname"])
    return ""


def written_agent_bind(state: State) -> str:
    """Where the agent is to listen, as it is written, or "" for nowhere."""
    with contextlib.suppress(OSError, yaml.YAMLError, KeyError, TypeError):
        return str(yaml.safe_load(state.agent_config.read_text())["api"]["addr"] or "")
    return ""


def write_private(path: Path, text: str) -> None:
    """A file only its owner may read, complete or not there."""
    half = path.with_name(path.name + ".new")
    handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    half.replace(path)


def _text(notes: list[str], keys: dict[str, object]) -> str:
    head = "".join(f"# {note}\n" for note in notes)
    return head + yaml.safe_dump(keys, sort_keys=False)
