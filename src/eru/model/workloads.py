"""Workloads, what is written on them, and what is known of them."""

from __future__ import annotations

import msgspec

from eru.model.nodes import Resources
from eru.model.stored import Stored

# Labels that agents and other tools read from the engine's own records.
# A contract with every published agent.
LABEL_ERU = "ERU"
LABEL_META = "ERU_META"
LABEL_NODENAME = "eru.nodename"
LABEL_COREID = "eru.coreid"
LABEL_TRACE = "eru.trace"  # ours: the id of the request that made the workload, as in core's log


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True):
    """How the agent decides that a running workload is healthy.

    All TCP ports must accept and the HTTP probe must answer. `http_code` 0
    accepts 200 to 499.
    """

    tcp_ports: list[str] = msgspec.field(name="TCPPorts", default_factory=list)
    http_port: str = msgspec.field(name="HTTPPort", default="")
    http_url: str = msgspec.field(name="HTTPURL", default="")
    http_code: int = msgspec.field(name="HTTPCode", default=0)


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON in label ERU_META. Key names are a contract with published agents."""

    publish: list[str] | None = msgspec.field(name="Publish", default=None)
    health_check: HealthCheck | None = msgspec.field(name="HealthCheck", default=None)

    def encode(self) -> str:
        """As text for the label."""
        return msgspec.json.encode(self).decode()


def decode_meta(text: str) -> Meta:
    """The meta of a label; anything unreadable counts as nothing declared."""
    try:
        return msgspec.json.decode(text, type=Meta)
    except msgspec.DecodeError:
        return Meta()


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """Commands run inside a workload. `force`: a failing one fails the verb."""

    after_start: list[str] = []
    before_stop: list[str] = []
    after_resume: list[str] = []
    before_suspend: list[str] = []
    force: bool = False


class Workload(Stored):
    """One instance, stored once under its id.

    `grant` and `engine_params` are per resource kind; `env` holds only what
    the caller asked for; `create_time` is in Unix seconds.
    """

    id: str
    name: str
    podname: str
    nodename: str
    image: str = ""
    user: str = ""
    privileged: bool = False
    env: list[str] = []
    labels: dict[str, str] = {}
    hook: Hook | None = None
    grant: Resources = {}
    engine_params: Resources = {}
    create_time: int = 0


class WorkloadStatus(Stored):
    """What the node's agent reported last. `ttl_s` 0: stays until replaced."""

    id: str
    running: bool = False
    healthy: bool = False
    networks: dict[str, str] = {}
    extension: bytes = b""
    appname: str = ""
    entrypoint: str = ""
    nodename: str = ""
    ttl_s: int = 0
