"""What the agent knows of each Eru workload on its node."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping

import msgspec

from eru.agent.settings import parse_duration
from eru.engine.contract import Inspection
from eru.model.errors import InvalidInput
from eru.model.names import parse_workload_name
from eru.model.workloads import LABEL_COREID, LABEL_ERU, LABEL_META, LABEL_NODENAME, HealthCheck, decode_meta

# Opt-in health extensions; published agents do not look at them.
LABEL_INTERVAL = "eru.health.interval"
LABEL_TIMEOUT = "eru.health.timeout"
LABEL_HEALTHY_AFTER = "eru.health.healthy_after"
LABEL_UNHEALTHY_AFTER = "eru.health.unhealthy_after"
LABEL_EXEC = "eru.health.exec"

LOOPBACK = "127.0.0.1"
HOST_NETWORK = "host"
NO_NETWORK = "none"
_COUNT = re.compile(r"[1-9]\d{0,3}")


class HealthPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to probe one workload. Seconds; thresholds are results in a row; `complaint`: what was ignored."""

    check: HealthCheck | None = None
    command: list[str] = []
    interval_s: float
    timeout_s: float
    healthy_after: int = 1
    unhealthy_after: int = 1
    complaint: str = ""

    @property
    def probes(self) -> bool:
        """Whether there is anything to probe at all."""
        check = self.check
        return bool(self.command or (check and (check.tcp_ports or check.http_port)))


class Workload(msgspec.Struct, kw_only=True):
    """One workload in its present run.

    `started_at`: Unix seconds, tells runs apart. `networks`: name -> address,
    sorted, as reported. `healthy`: by the last probes.
    """

    id: str
    app: str
    entrypoint: str
    ident: str
    labels: dict[str, str]
    env: dict[str, str]
    health: HealthPlan
    running: bool = False
    healthy: bool = False
    networks: dict[str, str] = {}
    started_at: float = 0.0
    pid: int = 0
    tty: bool = False

    @property
    def addresses(self) -> list[str]:
        """Where probes reach it: loopback for the host network, else every address."""
        found = [LOOPBACK if name == HOST_NETWORK else address for name, address in self.networks.items()]
        return list(dict.fromkeys(address for address in found if address))

    @property
    def fixed_addresses(self) -> bool:
        """Whether its networks give it no address at the start: those it has are known before."""
        return bool(self.networks) and all(name in (HOST_NETWORK, NO_NETWORK) for name in self.networks)

    @property
    def extension(self) -> bytes:
        """All labels as JSON, as reports carry them."""
        return json.dumps(self.labels, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()

    def extra(self) -> dict[str, str]:
        """The `extra` object of log records."""
        return {
            "podname": self.env.get("ERU_POD", ""),
            "nodename": self.env.get("ERU_NODE_NAME", ""),
            "coreid": self.labels.get(LABEL_COREID, ""),
        } | {f"networks_{name}": address for name, address in self.networks.items()}


class MineFilter(msgspec.Struct, kw_only=True):
    """Which workloads this agent cares about. `core_id` empty: not known (yet)."""

    hostname: str
    only_mine: bool = False
    by_label: bool = False
    core_id: str = ""

    def labels(self) -> dict[str, str]:
        """For listings and events."""
        wanted = {LABEL_ERU: "1"}
        if self.only_mine and self.by_label:
            wanted[LABEL_NODENAME] = self.hostname
            if self.core_id:
                wanted[LABEL_COREID] = self.core_id
        return wanted

    def takes(self, env: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        """The test of one container: events may still come by labels of before core was known."""
        if not self.only_mine:
            return True
        if self.by_label:
            return all(labels.get(name) == value for name, value in self.labels().items())
        return env.get("ERU_NODE_NAME") == self.hostname


def workload_of(found: Inspection, node_ip: str, interval_s: float, timeout_s: float) -> Workload:
    """A workload from the engine's answer. Raises InvalidInput if its name is not one of Eru's."""
    app, entrypoint, ident = parse_workload_name(found.name)
    plan = health_plan(found.labels, interval_s, timeout_s)
    return Workload(
        id=found.id,
        app=app,
        entrypoint=entrypoint,
        ident=ident,
        labels=dict(found.labels),
        env=_pairs(found.env),
        health=plan,
        running=found.running,
        healthy=found.running and not plan.probes,
        networks=_networks(found, node_ip),
        started_at=found.started_at,
        pid=found.pid,
        tty=found.tty,
    )


def health_plan(labels: Mapping[str, str], interval_s: float, timeout_s: float) -> HealthPlan:
    """What the labels ask for; a label that cannot be read is left out and named in `complaint`."""
    complaints: list[str] = []
    command: list[str] = []
    try:
        command = shlex.split(labels.get(LABEL_EXEC, ""))
    except ValueError as error:
        complaints.append(f"label {LABEL_EXEC}: {error}")
    return HealthPlan(
        check=decode_meta(labels.get(LABEL_META, "")).health_check,
        command=command,
        interval_s=_seconds(labels, LABEL_INTERVAL, interval_s, complaints),
        timeout_s=_seconds(labels, LABEL_TIMEOUT, timeout_s, complaints),
        healthy_after=_count(labels, LABEL_HEALTHY_AFTER, complaints),
        unhealthy_after=_count(labels, LABEL_UNHEALTHY_AFTER, complaints),
        complaint="; ".join(complaints),
    )


def _seconds(labels: Mapping[str, str], label: str, default: float, complaints: list[str]) -> float:
    if label not in labels:
        return default
    try:
        value = parse_duration(f"label {label}", labels[label])
    except InvalidInput as error:
        complaints.append(str(error))
        return default
    return max(value, 0.1)


def _count(labels: Mapping[str, str], label: str, complaints: list[str]) -> int:
    text = labels.get(label, "1")
    if _COUNT.fullmatch(text):
        return int(text)
    complaints.append(f"label {label} {text!r} is not a number from 1 to 9999")
    return 1


def _pairs(env: Iterable[str]) -> dict[str, str]:
    """Only what is used later: the rest of an environment may be large and secret."""
    pairs = (item.partition("=") for item in env)
    return {name: value for name, _, value in pairs if name in ("ERU_POD", "ERU_NODE_NAME")}


def _networks(found: Inspection, node_ip: str) -> dict[str, str]:
    if not found.running and found.started_at:
        return {}
    return {name: node_ip if name == HOST_NETWORK else found.networks[name] for name in sorted(found.networks)}
