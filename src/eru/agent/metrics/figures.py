"""From two samples to the published figures."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from eru.agent.metrics.sources import Disk, Host, Sample


class Figure(msgspec.Struct, frozen=True):
    """One value. `label` (`nic` or `dev`) and `part` are empty for figures of the whole workload."""

    name: str
    value: float
    label: str = ""
    part: str = ""
    statsd_name: str = ""


def figures(host: Host, before: Sample, now: Sample) -> list[Figure]:
    """Names, labels and values are a contract with dashboards. Time is what really passed."""
    elapsed = now.at - before.at
    if elapsed <= 0:
        return []
    return [*_cpu(host, before, now, elapsed), *_memory(host, now), *_net(before, now, elapsed), *_io(before, now)]


def _cpu(host: Host, before: Sample, now: Sample, elapsed: float) -> Iterator[Figure]:
    used = now.cpu - before.cpu
    user, system = now.cpu_user - before.cpu_user, now.cpu_system - before.cpu_system
    if used < 0 or user < 0 or system < 0:
        return  # counters began anew: wait for the next pair
    host_user, host_system = now.host_user - before.host_user, now.host_system - before.host_system
    yield Figure("cpu_host_usage", used / (host.cpus * elapsed))
    yield Figure("cpu_host_sys_usage", _part(system, host_system))
    yield Figure("cpu_host_user_usage", _part(user, host_user))
    yield Figure("cpu_container_usage", used / ((now.cpus or host.cpus) * elapsed))
    yield Figure("cpu_container_sys_usage", _part(system, used))
    yield Figure("cpu_container_user_usage", _part(user, used))


def _memory(host: Host, now: Sample) -> Iterator[Figure]:
    limit = now.memory_limit or host.memory
    yield Figure("mem_usage", now.memory)
    yield Figure("mem_max_usage", now.memory_max)
    yield Figure("mem_rss", now.memory_rss)
    yield Figure("mem_percent", _part(now.memory, limit))
    yield Figure("mem_rss_percent", _part(now.memory_rss, limit))


_NIC_FIGURES = (
    ("bytes_send", "bytes.sent", "sent_bytes"),
    ("bytes_recv", "bytes.recv", "recv_bytes"),
    ("packets_send", "packets.sent", "sent_packets"),
    ("packets_recv", "packets.recv", "recv_packets"),
    ("err_in", "err.in", "recv_errors"),
    ("err_out", "err.out", "sent_errors"),
    ("drop_in", "drop.in", "recv_drops"),
    ("drop_out", "drop.out", "sent_drops"),
)
_DISK_FIGURES = (
    ("io_service_bytes_read", "read_bytes"),
    ("io_service_bytes_write", "write_bytes"),
    ("io_serviced_read", "reads"),
    ("io_serviced_write", "writes"),
)


def _net(before: Sample, now: Sample, elapsed: float) -> Iterator[Figure]:
    for nic, counters in now.nics.items():
        earlier = before.nics.get(nic)
        if earlier is None:
            continue
        for name, statsd_name, field in _NIC_FIGURES:
            delta = getattr(counters, field) - getattr(earlier, field)
            if delta >= 0:
                yield Figure(name, delta / elapsed, "nic", nic, f"{nic}.{statsd_name}")


def _io(before: Sample, now: Sample) -> Iterator[Figure]:
    elapsed = now.at - before.at
    for device, counters in now.disks.items():
        earlier = before.disks.get(device, Disk())
        for name, field in _DISK_FIGURES:
            value, old = getattr(counters, field), getattr(earlier, field)
            yield Figure(name, value, "dev", device, f"{device}.{name}")
            if value >= old:
                per_second = f"{name}_per_second"
                yield Figure(per_second, (value - old) / elapsed, "dev", device, f"{device}.{per_second}")


def _part(value: float, whole: float) -> float:
    return value / whole if whole > 0 else 0.0
