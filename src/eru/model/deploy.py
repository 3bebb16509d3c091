"""What can be asked for in a deploy, after the wire form was checked and normalised."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from eru.model.nodes import Resources
from eru.model.workloads import HealthCheck, Hook


class Strategy(enum.IntEnum):
    """How instances are spread; numbers as on the wire."""

    AUTO = 0
    FILL = 1
    EACH = 2
    GLOBAL = 3
    DRAINED = 4
    DUMMY = 99


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's log driver for the workload."""

    type: str = ""
    config: dict[str, str] = {}


class Entrypoint(msgspec.Struct, frozen=True, kw_only=True):
    """One way to start the app."""

    name: str
    commands: list[str] = []
    privileged: bool = False
    dir: str = ""
    log: LogConfig | None = None
    publish: list[str] = []
    health_check: HealthCheck | None = None
    hook: Hook | None = None
    restart: str = ""
    sysctls: dict[str, str] = {}


class FileToSend(msgspec.Struct, frozen=True, kw_only=True):
    """A file put into a workload. `path` is absolute inside it."""

    path: str
    content: bytes
    mode: int = 0o755
    uid: int = 0
    gid: int = 0

    def __repr__(self) -> str:
        return f"FileToSend({self.path}, {len(self.content)} bytes)"


class NodeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which nodes may be used. Named nodes are taken as they are, whatever their pod or state."""

    podname: str = ""
    includes: list[str] = []
    excludes: list[str] = []
    labels: dict[str, str] = {}


class DeploySpec(msgspec.Struct, frozen=True, kw_only=True):
    """A whole deploy request.

    `resources` are the request bags per resource kind, parsed JSON objects.
    `networks` maps network name to a wanted IPv4 address or "".
    `count` and `nodes_limit` mean what the strategy says.
    """

    app: str
    entrypoint: Entrypoint
    image: str
    count: int
    nodes: NodeFilter
    strategy: Strategy = Strategy.AUTO
    nodes_limit: int = 0
    resources: Resources = {}
    env: list[str] = []
    dns: list[str] = []
    extra_hosts: list[str] = []
    networks: dict[str, str] = {}
    user: str = ""
    debug: bool = False
    open_stdin: bool = False
    lambda_: bool = False
    labels: dict[str, str] = {}
    files: list[FileToSend] = []
    ignore_hook: bool = False
    ignore_pull: bool = False
    after_create: list[str] = []
    raw_args: dict[str, Any] = {}

    tty: bool = True  # with open_stdin: on a terminal; otherwise input is data and ends

    # Ours, not in the published message (eru.v1):
    if_revision: int = 0
    all_or_nothing: bool = False


class ReplaceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A whole replace request: what the new workloads are like, and which old ones they take over from.

    Without `ids`: all of the app's entrypoint (on the named nodes only, if any
    are named). `filter_labels`: others are left alone. `copy`: path in the old
    one -> path in the new one.
    """

    deploy: DeploySpec
    ids: list[str] = []
    network_inherit: bool = False
    filter_labels: dict[str, str] = {}
    copy: dict[str, str] = {}
