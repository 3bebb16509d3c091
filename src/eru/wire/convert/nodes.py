"""Pods and nodes, both directions."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from eru.model.errors import InvalidInput
from eru.model.names import check_name
from eru.model.nodes import EngineInfo, Node, NodeTLS, Pod, Resources
from eru.model.refusals import Refusal
from eru.model.requests import NewNode, NodeChange
from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
from eru.wire.convert.deploy import checked_map, checked_text
from eru.wire.convert.text import parse_bags, to_json

TLS_CHARS_MAX = 64 * 1024  # one PEM text
_OPTIONAL = ("gpu", "storage")
_BYPASS = {pb.TriOpt.KEEP: None, pb.TriOpt.TRUE: True, pb.TriOpt.FALSE: False}


def pod_message(pod: Pod) -> pb.Pod:
    return pb.Pod(name=pod.name, desc=pod.desc)


def new_node(options: pb.AddNodeOptions) -> NewNode:
    """Raises InvalidInput."""
    return NewNode(
        name=check_name("node name", options.nodename),
        podname=check_name("pod name", options.podname),
        endpoint=_endpoint(options.endpoint),
        tls=_tls(options.ca, options.cert, options.key),
        labels=checked_map("labels", options.labels),
        resources=parse_bags(options.resources),
        test=options.test,
    )


def node_change(options: pb.SetNodeOptions) -> NodeChange:
    """Raises InvalidInput."""
    if options.bypass not in _BYPASS:
        raise InvalidInput(f"bypass is {options.bypass}, expected 0 (keep), 1 (true) or 2 (false)")
    return NodeChange(
        name=check_name("node name", options.nodename),
        endpoint=_endpoint(options.endpoint) if options.endpoint else "",
        tls=_tls(options.ca, options.cert, options.key),
        labels=checked_map("labels", options.labels),
        resources={name: bag for name, bag in parse_bags(options.resources).items() if bag},
        delta=options.delta,
        workloads_down=options.workloads_down,
        bypass=_BYPASS[options.bypass],
    )


def _endpoint(endpoint: str) -> str:
    if not endpoint or len(endpoint) > 1024 or any(letter <= " " for letter in endpoint):
        raise InvalidInput(
            f"endpoint invalid {endpoint[:64]!r}: invalid node endpoint, expected for example unix:///var/run/docker.sock"
        )
    return endpoint


def _tls(ca: str, cert: str, key: str) -> NodeTLS | None:
    for field, text in (("ca", ca), ("cert", cert), ("key", key)):
        if len(checked_text(field, text)) > TLS_CHARS_MAX:
            raise InvalidInput(f"{field} has {len(text)} characters, at most {TLS_CHARS_MAX} are allowed")
    return NodeTLS(ca=ca, cert=cert, key=key) if ca or cert or key else None


class Shown:
    """Resources of a node as texts. Made once and kept while they are the same: a third of the cost of a list."""

    __slots__ = ("capacity", "capacity_text", "usage", "usage_text")

    def __init__(self, capacity: Resources, usage: Resources) -> None:
        self.capacity, self.usage = capacity, usage
        self.capacity_text = to_json(_there(capacity, capacity, usage))
        self.usage_text = to_json(_there(usage, capacity, usage))


def node_message(node: Node, shown: Shown, *, available: bool, info: str = "") -> pb.Node:
    return pb.Node(
        name=node.name,
        endpoint=node.endpoint,
        podname=node.podname,
        available=available,
        bypass=node.bypass,
        labels=node.labels,
        info=info,
        resource_capacity=shown.capacity_text,
        resource_usage=shown.usage_text,
        test=node.test,
    )


def _there(records: Resources | None, *both: Resources | None) -> Resources | None:
    """Without optional kinds of which the node has nothing: published clients divide by their zeros."""
    if records is None:
        return None
    return {kind: _shown(record) for kind, record in records.items() if kind not in _OPTIONAL or _some(kind, both)}


def _shown(record: Any) -> Any:
    """Without what a kind notes for itself, under names that begin with `_`."""
    if not isinstance(record, dict) or not any(key.startswith("_") for key in record):
        return record
    return {key: value for key, value in record.items() if not key.startswith("_")}


def _some(kind: str, all_of_it: Iterable[Resources | None]) -> bool:
    return any(any((records or {}).get(kind, {}).values()) for records in all_of_it)


def engine_info_text(info: EngineInfo) -> str:
    """As published clients show it."""
    return to_json(
        {
            "Type": info.type,
            "ID": info.id,
            "NCPU": info.ncpu,
            "MemTotal": info.memory,
            "StorageTotal": info.storage,
            "Resources": {name: base64.b64encode(data).decode() for name, data in info.resources.items()} or None,
        }
    )


def resource_message(
    name: str, capacity: Resources | None, usage: Resources | None, diffs: list[str]
) -> pb.NodeResource:
    """`None` stands for what could not be read."""
    return pb.NodeResource(
        name=name,
        diffs=diffs,
        resource_capacity=to_json(_there(capacity, capacity, usage)),
        resource_usage=to_json(_there(usage, capacity, usage)),
    )


def refusal_message(refusal: Refusal) -> v1.Refusal:
    return v1.Refusal(
        nodename=refusal.nodename,
        reason=refusal.reason.value,
        dimension=refusal.dimension,
        wanted=refusal.wanted,
        free=refusal.free,
        detail=refusal.detail,
    )
