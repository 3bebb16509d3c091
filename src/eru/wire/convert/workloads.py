"""Workloads and what is known of them, both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eru.model.errors import InvalidInput
from eru.model.requests import WorkloadFilter
from eru.model.workloads import LABEL_META, Workload, WorkloadStatus, decode_meta
from eru.wire import core_pb2 as pb
from eru.wire.convert.deploy import checked_map, checked_text, workload_id
from eru.wire.convert.text import to_json
from eru.wire.status import NoIDs

EXTENSION_BYTES_MAX = 512 * 1024
TTL_S_MAX = 365 * 86400
STATUSES_MAX = 10_000  # in one request
IDS_MAX = 100_000  # in one request


def publish(networks: Mapping[str, str], ports: Iterable[str]) -> dict[str, str]:
    """Network name -> `address:port` of every port, with commas; networks without an address are left out."""
    wanted = list(ports)
    if not wanted:
        return {}
    return {name: ",".join(f"{address}:{port}" for port in wanted) for name, address in networks.items() if address}


def workload_message(workload: Workload, status: WorkloadStatus | None) -> pb.Workload:
    """With its last reported status, which may be empty; `publish` follows from both."""
    addresses: dict[str, str] = {}
    if status is not None and status.networks:
        addresses = publish(status.networks, decode_meta(workload.labels.get(LABEL_META, "")).publish or [])
    return pb.Workload(
        id=workload.id,
        podname=workload.podname,
        nodename=workload.nodename,
        name=workload.name,
        privileged=workload.privileged,
        labels=workload.labels,
        publish=addresses,
        image=workload.image,
        status=status_message(status) if status is not None else pb.WorkloadStatus(),
        create_time=workload.create_time,
        env=workload.env,
        resources=to_json(workload.grant),
    )


def status_message(status: WorkloadStatus) -> pb.WorkloadStatus:
    return pb.WorkloadStatus(
        id=status.id,
        running=status.running,
        healthy=status.healthy,
        networks=status.networks,
        extension=status.extension,
    )


def statuses(options: pb.SetWorkloadsStatusOptions) -> list[WorkloadStatus]:
    """Reported statuses; the last one of each id counts. Raises InvalidInput."""
    if len(options.status) > STATUSES_MAX:
        raise InvalidInput(f"{len(options.status)} statuses in one request, at most {STATUSES_MAX} are allowed")
    return list({status.id: _status(status) for status in options.status}.values())


def _status(status: pb.WorkloadStatus) -> WorkloadStatus:
    workload_id(status.id)
    if status.ttl < 0 or status.ttl > TTL_S_MAX:
        raise InvalidInput(f"ttl {status.ttl} of workload {status.id} is not between 0 and {TTL_S_MAX} seconds")
    if len(status.extension) > EXTENSION_BYTES_MAX:
        raise InvalidInput(
            f"extension of workload {status.id} has {len(status.extension)} bytes, "
            f"at most {EXTENSION_BYTES_MAX} are allowed"
        )
    return WorkloadStatus(
        id=status.id,
        running=status.running,
        healthy=status.healthy,
        networks=checked_map("networks", status.networks),
        extension=status.extension,
        appname=checked_text("appname", status.appname),
        entrypoint=checked_text("entrypoint", status.entrypoint),
        nodename=checked_text("nodename", status.nodename),
        ttl_s=status.ttl,
    )


def ids(given: Iterable[str]) -> list[str]:
    """Checked ids, each once, in order. Raises NoIDs when there are none."""
    checked = [workload_id(id) for id in dict.fromkeys(given)]
    if not checked:
        raise NoIDs
    if len(checked) > IDS_MAX:
        raise InvalidInput(f"{len(checked)} workload IDs in one request, at most {IDS_MAX} are allowed")
    return checked


def workload_filter(options: pb.ListWorkloadsOptions | pb.WorkloadStatusStreamOptions) -> WorkloadFilter:
    """Raises InvalidInput."""
    limit = max(options.limit, 0) if isinstance(options, pb.ListWorkloadsOptions) else 0  # negative means all, too
    return WorkloadFilter(
        appname=checked_text("appname", options.appname),
        entrypoint=checked_text("entrypoint", options.entrypoint),
        nodename=checked_text("nodename", options.nodename),
        labels=checked_map("labels", options.labels),
        limit=limit,
    )
