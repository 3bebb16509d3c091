"""The key catalogue: every key that Eru writes, on one page.

All keys start with the configured root (default `/eru`), added here so that
nothing else ever joins key parts by hand.

    cluster/id                              the cluster's identity (text), written once
    core/<core>                             a running core (Registration), under its lease
    leader/<role>                           who leads a role right now (core id), under its lease
    pod/<pod>                               Pod
    node/<node>                             Node
    node-tls/<node>                         NodeTLS (secret)
    resource/<node>                         NodeResource, the unit of consistency
    heartbeat/<node>                        Heartbeat, under a lease
    workload/<id>                           Workload, stored once
    on-node/<node>/<id>                     index: workloads of a node -> "<app>/<entrypoint>/<name>"
    of-app/<app>/<entrypoint>/<node>/<id>   index: workloads of an app -> ""
    status/<app>/<entrypoint>/<node>/<id>   WorkloadStatus, under a lease if it has a TTL
    intent/<node>/<name>                    Intent
    group/<operation>                       Group, the common fate of a deploy that is all or nothing
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Builds and reads keys under one root."""

    root: str = "/eru"

    def __post_init__(self) -> None:
        if not self.root.startswith("/") or self.root.endswith("/"):
            raise ValueError(f"store prefix {self.root!r} must start with '/' and not end with it")

    @property
    def everything(self) -> str:
        return f"{self.root}/"

    @property
    def cluster_id(self) -> str:
        return f"{self.root}/cluster/id"

    @property
    def cores(self) -> str:
        return f"{self.root}/core/"

    def core(self, core: str) -> str:
        return f"{self.root}/core/{core}"

    def leader(self, role: str) -> str:
        return f"{self.root}/leader/{role}"

    @property
    def pods(self) -> str:
        return f"{self.root}/pod/"

    @property
    def published_pods(self) -> str:
        """Where a published core keeps its pods; none of our keys can begin so."""
        return f"{self.root}/pod/info/"

    def pod(self, pod: str) -> str:
        return f"{self.root}/pod/{pod}"

    @property
    def nodes(self) -> str:
        return f"{self.root}/node/"

    def node(self, node: str) -> str:
        return f"{self.root}/node/{node}"

    def node_tls(self, node: str) -> str:
        return f"{self.root}/node-tls/{node}"

    @property
    def resources(self) -> str:
        return f"{self.root}/resource/"

    def resource(self, node: str) -> str:
        return f"{self.root}/resource/{node}"

    @property
    def heartbeats(self) -> str:
        return f"{self.root}/heartbeat/"

    def heartbeat(self, node: str) -> str:
        return f"{self.root}/heartbeat/{node}"

    @property
    def workloads(self) -> str:
        return f"{self.root}/workload/"

    def workload(self, id: str) -> str:
        return f"{self.root}/workload/{id}"

    def on_node(self, node: str, id: str = "") -> str:
        return f"{self.root}/on-node/{node}/{id}"

    def of_app(self, app: str = "", entrypoint: str = "", node: str = "", id: str = "") -> str:
        return self._narrowed("of-app", app, entrypoint, node, id)

    def status(self, app: str = "", entrypoint: str = "", node: str = "", id: str = "") -> str:
        return self._narrowed("status", app, entrypoint, node, id)

    @property
    def intents(self) -> str:
        return f"{self.root}/intent/"

    def intent(self, node: str, name: str = "") -> str:
        return f"{self.root}/intent/{node}/{name}"

    def group(self, operation: str) -> str:
        return f"{self.root}/group/{operation}"

    def split(self, key: str) -> tuple[str, list[str]]:
        """(room, parts) of a key of this catalogue, for example ("node", ["n1"])."""
        room, _, rest = key.removeprefix(f"{self.root}/").partition("/")
        return room, rest.split("/")

    def _narrowed(self, room: str, *parts: str) -> str:
        """A key when all parts are given, else the prefix up to the first empty part."""
        key = f"{self.root}/{room}/"
        for index, part in enumerate(parts):
            if not part:
                break
            key += part if index == len(parts) - 1 else f"{part}/"
        return key
