"""Raw counters of one workload, read from cgroup v1 or v2 and its network namespace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
READ_SIZE = 64 << 10  # bytes asked for at once; most of these files are far smaller
PART_MIN = 3072  # bytes: the kernel answers at least that much at once if there is more
_IO_STAT = frozenset(("rbytes", "wbytes", "rios", "wios"))
_NO_LIMIT = 1 << 60  # v1 writes a huge number for "no limit"


class Nic(msgspec.Struct, frozen=True):
    """Counters of one interface since it exists."""

    recv_bytes: int
    recv_packets: int
    recv_errors: int
    recv_drops: int
    sent_bytes: int
    sent_packets: int
    sent_errors: int
    sent_drops: int


class Disk(msgspec.Struct, frozen=True):
    """Bytes and operations of one block device since the workload's start."""

    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One reading. CPU in seconds, memory in bytes; `cpus` 0 and `memory_limit` 0: not limited."""

    at: float
    cpu: float
    cpu_user: float
    cpu_system: float
    host_user: float
    host_system: float
    cpus: float
    memory: int
    memory_max: int
    memory_rss: int
    memory_limit: int
    nics: dict[str, Nic]
    disks: dict[str, Disk]


class Host(msgspec.Struct, kw_only=True):
    """Where this machine shows its figures. `proc`, `sys`: roots, for an agent in a container and for tests."""

    proc: str = "/proc"
    sys: str = "/sys"
    cpus: int = 0
    memory: int = 0
    devices: dict[str, str] = {}

    def learn(self) -> None:
        """Read how many CPUs and how much memory the machine has."""
        lines = _read(f"{self.proc}/stat").splitlines()
        self.cpus = max(sum(line.startswith("cpu") for line in lines) - 1, 1)
        for line in _read(f"{self.proc}/meminfo").splitlines():
            if line.startswith("MemTotal:"):
                self.memory = int(line.split()[1]) * 1024

    def device(self, number: str) -> str:
        """`/dev/sda` of `8:0`; the number itself for a device without a name."""
        if number not in self.devices:
            name = number
            try:
                for line in _read(f"{self.sys}/dev/block/{number}/uevent").splitlines():
                    if line.startswith("DEVNAME="):
                        name = "/dev/" + line.partition("=")[2]
            except OSError:
                pass
            self.devices[number] = name
        return self.devices[number]


class Cgroup(msgspec.Struct, frozen=True):
    """Directories of one workload's control groups; `v2` set: the unified one, the others are unused."""

    v2: str = ""
    cpu: str = ""
    cpuacct: str = ""
    memory: str = ""
    blkio: str = ""


def find_cgroup(host: Host, pid: int, id: str) -> Cgroup:
    """By the main process; the usual places by id if that shows nothing. Raises FileNotFoundError."""
    paths: dict[str, str] = {}
    for line in _read(f"{host.proc}/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(",") if controllers else [""]:
            paths[controller] = path
    root = f"{host.sys}/fs/cgroup"
    if "cpuacct" in paths or "memory" in paths:
        found = {name: _existing(root, name, paths.get(name, "/"), id) for name in Cgroup.__struct_fields__[1:]}
        return Cgroup(**found)
    return Cgroup(v2=_existing(root, "", paths.get("", "/"), id))


class Moment:
    """What workloads that are read at the same moment share: the host's times, and network namespaces."""

    def __init__(self, host: Host, at: float) -> None:
        self.host = host
        self.at = at
        self.user, self.system = _host_cpu(host)
        self._nics: dict[int, dict[str, Nic]] = {}

    def nics(self, pid: int) -> dict[str, Nic]:
        """Interfaces of a process's network namespace; many workloads may share the host's."""
        try:
            namespace = os.stat(f"{self.host.proc}/{pid}/ns/net").st_ino
        except OSError:
            return read_nics(self.host, pid)
        if namespace not in self._nics:
            self._nics[namespace] = read_nics(self.host, pid)
        return self._nics[namespace]


def read_sample(moment: Moment, cgroup: Cgroup, pid: int) -> Sample:
    """All counters now. Raises OSError or ValueError when the workload is gone or the kernel answers oddly."""
    host = moment.host
    figures = _v2_figures(host, cgroup.v2) if cgroup.v2 else _v1_figures(host, cgroup)
    return Sample(at=moment.at, host_user=moment.user, host_system=moment.system, nics=moment.nics(pid), **figures)


def read_nics(host: Host, pid: int) -> dict[str, Nic]:
    """Interfaces of a process's network namespace, without loopback's zeros being special."""
    nics = {}
    for line in _read(f"{host.proc}/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        n = [int(text) for text in rest.split()]
        nics[name.strip()] = Nic(n[0], n[1], n[2], n[3], n[8], n[9], n[10], n[11])
    return nics


def _v1_figures(host: Host, cgroup: Cgroup) -> dict[str, Any]:
    times = _pairs(_read(f"{cgroup.cpuacct}/cpuacct.stat"))
    stat = _pairs(_read(f"{cgroup.memory}/memory.stat"))
    limit = int(_read(f"{cgroup.memory}/memory.limit_in_bytes"))
    quota = int(_read_or(f"{cgroup.cpu}/cpu.cfs_quota_us", "-1"))
    period = int(_read_or(f"{cgroup.cpu}/cpu.cfs_period_us", "0"))
    return {
        "cpu": int(_read(f"{cgroup.cpuacct}/cpuacct.usage")) / 1e9,
        "cpu_user": times.get("user", 0) / TICKS_PER_S,
        "cpu_system": times.get("system", 0) / TICKS_PER_S,
        "cpus": quota / period if quota > 0 and period > 0 else 0.0,
        "memory": int(_read(f"{cgroup.memory}/memory.usage_in_bytes")),
        "memory_max": int(_read(f"{cgroup.memory}/memory.max_usage_in_bytes")),
        "memory_rss": stat.get("rss", stat.get("total_rss", 0)),
        "memory_limit": limit if 0 < limit < _NO_LIMIT else 0,
        "disks": _v1_disks(host, cgroup.blkio),
    }


def _v2_figures(host: Host, path: str) -> dict[str, Any]:
    cpu = _pairs(_read(f"{path}/cpu.stat"))
    stat = _pairs(_read_or(f"{path}/memory.stat", ""))
    memory = int(_read_or(f"{path}/memory.current", "0"))
    limit = _read_or(f"{path}/memory.max", "max").strip()
    quota, _, period = _read_or(f"{path}/cpu.max", "max 100000").strip().partition(" ")
    return {
        "cpu": cpu.get("usage_usec", 0) / 1e6,
        "cpu_user": cpu.get("user_usec", 0) / 1e6,
        "cpu_system": cpu.get("system_usec", 0) / 1e6,
        "cpus": int(quota) / int(period) if quota != "max" and period else 0.0,
        "memory": memory,
        "memory_max": int(_read_or(f"{path}/memory.peak", str(memory))),
        "memory_rss": stat.get("anon", 0),
        "memory_limit": 0 if limit == "max" else int(limit),
        "disks": _v2_disks(host, _read_or(f"{path}/io.stat", "")),
    }


def _v1_disks(host: Host, path: str) -> dict[str, Disk]:
    sums: dict[str, dict[str, int]] = {}
    for file, read, write in (("io_service_bytes", "read_bytes", "write_bytes"), ("io_serviced", "reads", "writes")):
        text = _read_or(f"{path}/blkio.{file}_recursive", "") if path else ""
        if len(text.splitlines()) <= 1 and path:  # only "Total 0": the figures are with the throttle policy
            text = _read_or(f"{path}/blkio.throttle.{file}_recursive", text)
        for line in text.splitlines():
            parts = line.split()
            if len(parts) == 3 and parts[1].lower() in ("read", "write"):
                disk = sums.setdefault(host.device(parts[0]), {})
                disk[read if parts[1].lower() == "read" else write] = int(parts[2])
    return {device: Disk(**figures) for device, figures in sums.items()}


def _v2_disks(host: Host, text: str) -> dict[str, Disk]:
    disks = {}
    for line in text.splitlines():
        number, *pairs = line.split()
        figures = {key: int(value) for key, _, value in (pair.partition("=") for pair in pairs) if key in _IO_STAT}
        disks[host.device(number)] = Disk(
            figures.get("rbytes", 0), figures.get("wbytes", 0), figures.get("rios", 0), figures.get("wios", 0)
        )
    return disks


def _host_cpu(host: Host) -> tuple[float, float]:
    """User and system seconds of all CPUs together."""
    fields = _read(f"{host.proc}/stat").split("\n", 1)[0].split()
    return int(fields[1]) / TICKS_PER_S, int(fields[3]) / TICKS_PER_S


def _existing(root: str, controller: str, path: str, id: str) -> str:
    mounted = [controller, "cpu,cpuacct", "cpuacct,cpu"] if controller in ("cpu", "cpuacct") else [controller]
    places = [path, f"/docker/{id}", f"/system.slice/docker-{id}.scope"]
    for place in places:
        for mount in mounted:
            candidate = Path(f"{root}/{mount}{place}")
            if ".." not in place and candidate.is_dir():
                return str(candidate)
    raise FileNotFoundError(f"no control group {controller or 'v2'} of {id[:12]} below {root}")


def _pairs(text: str) -> dict[str, int]:
    return {key: int(value) for key, _, value in (line.partition(" ") for line in text.splitlines()) if value}


def _read(path: str) -> str:
    """Hundreds of these files are read per step: without the layers of a file object."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, READ_SIZE)
        if len(data) > PART_MIN:  # such a file may give its end only when asked again
            while part := os.read(fd, READ_SIZE):
                data += part
    finally:
        os.close(fd)
    return data.decode("ascii", "replace")


def _read_or(path: str, default: str) -> str:
    try:
        return _read(path)
    except OSError:
        return default
