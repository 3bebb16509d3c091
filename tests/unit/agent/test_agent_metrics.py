"""Figures from the kernel's files: cgroup v1 and v2, names, rates over real time, statsd packets."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from eru.agent.metrics.figures import figures
from eru.agent.metrics.keeper import MetricsKeeper, number
from eru.agent.metrics.sources import Disk, Host, Moment, Nic, Sample, find_cgroup, read_sample
from eru.agent.notices import Notices
from eru.agent.workloads import HealthPlan, Workload
from eru.lib.world import real_world

ID = "c" * 64
MIB = 1 << 20


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def host(root: Path) -> Host:
    zeros = " 0 0 0 0 "
    write(
        root,
        {
            "proc/stat": "cpu  100 0 50 0 0\ncpu0 50 0 25 0\ncpu1 50 0 25 0\nintr 1\n",
            "proc/meminfo": "MemTotal: 1048576 kB\n",
            "proc/7/net/dev": f"a\nb\n  lo: 1 2 3 4 {zeros * 3}\neth0:10 20 30 40 {zeros} 50 60 70 80 {zeros}\n",
            "sys/dev/block/8:0/uevent": "MAJOR=8\nDEVNAME=sda\n",
        },
    )
    made = Host(proc=str(root / "proc"), sys=str(root / "sys"))
    made.learn()
    return made


SCOPE = f"sys/fs/cgroup/system.slice/docker-{ID}.scope"
BLKIO = f"sys/fs/cgroup/blkio/docker/{ID}"
V1 = {
    f"sys/fs/cgroup/cpuacct/docker/{ID}/cpuacct.stat": "user 200\nsystem 100\n",
    f"sys/fs/cgroup/cpuacct/docker/{ID}/cpuacct.usage": "3000000000\n",
    f"sys/fs/cgroup/cpu/docker/{ID}/cpu.cfs_quota_us": "50000\n",
    f"sys/fs/cgroup/cpu/docker/{ID}/cpu.cfs_period_us": "100000\n",
    f"sys/fs/cgroup/memory/docker/{ID}/memory.stat": "cache 5\nrss 4096\n",
    f"sys/fs/cgroup/memory/docker/{ID}/memory.usage_in_bytes": "8192\n",
    f"sys/fs/cgroup/memory/docker/{ID}/memory.max_usage_in_bytes": "9000\n",
    f"sys/fs/cgroup/memory/docker/{ID}/memory.limit_in_bytes": f"{64 * MIB}\n",
    f"{BLKIO}/blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\nTotal 30\n",
    f"{BLKIO}/blkio.throttle.io_serviced_recursive": "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
    "proc/7/cgroup": "".join(
        f"{n}:{name}:/docker/{ID}\n" for n, name in enumerate(["cpu", "cpuacct", "memory", "blkio"], 2)
    )
    + "0::/\n",
}
V2 = {
    f"{SCOPE}/cpu.stat": "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n",
    f"{SCOPE}/cpu.max": "50000 100000\n",
    f"{SCOPE}/memory.stat": "anon 4096\nfile 5\n",
    f"{SCOPE}/memory.current": "8192\n",
    f"{SCOPE}/memory.peak": "9000\n",
    f"{SCOPE}/memory.max": f"{64 * MIB}\n",
    f"{SCOPE}/io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
    "proc/7/cgroup": f"0::/system.slice/docker-{ID}.scope\n",
}


@pytest.mark.parametrize("files", [V1, V2], ids=["cgroup v1", "cgroup v2"])
def test_both_kinds_of_cgroup_give_the_same_sample(files: dict[str, str], tmp_path: Path) -> None:
    machine = host(tmp_path)
    write(tmp_path, files)
    sample = read_sample(Moment(machine, 1.0), find_cgroup(machine, 7, ID), 7)
    assert (sample.cpu, sample.cpu_user, sample.cpu_system, sample.cpus) == (3.0, 2.0, 1.0, 0.5)
    assert (sample.memory, sample.memory_max, sample.memory_rss, sample.memory_limit) == (8192, 9000, 4096, 64 * MIB)
    assert sample.disks == {"/dev/sda": Disk(10, 20, 1, 2)}
    assert sample.nics["eth0"] == Nic(10, 20, 30, 40, 50, 60, 70, 80)
    assert (machine.cpus, machine.memory) == (2, 1024 * MIB)


# As a machine with cgroup v2, systemd and kernel 5.15 shows them: no memory.peak, devices without figures, more keys.
RECORDED = {
    f"{SCOPE}/cpu.stat": (
        "usage_usec 48211337\nuser_usec 30102450\nsystem_usec 18108887\n"
        "nr_periods 1203\nnr_throttled 17\nthrottled_usec 912004\n"
    ),
    f"{SCOPE}/cpu.max": "max 100000\n",
    f"{SCOPE}/memory.current": "37122048\n",
    f"{SCOPE}/memory.max": "max\n",
    f"{SCOPE}/memory.stat": (
        "anon 21405696\nfile 13107200\nkernel_stack 245760\npagetables 397312\npercpu 2304\nsock 0\nshmem 0\n"
        "file_mapped 9461760\nfile_dirty 0\nanon_thp 0\ninactive_anon 21393408\nslab 1548264\npgfault 92103\n"
    ),
    f"{SCOPE}/io.stat": (
        "7:3 \n"
        "259:0 rbytes=11796480 wbytes=40960 rios=301 wios=10 dbytes=0 dios=0 cost.usage=132 cost.vrate=100.00\n"
        "253:1 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n"
    ),
    "proc/7/cgroup": f"0::/system.slice/docker-{ID}.scope\n",
    "sys/dev/block/259:0/uevent": "MAJOR=259\nMINOR=0\nDEVNAME=nvme0n1\nDEVTYPE=disk\nDISKSEQ=9\n",
}


def test_a_recorded_tree_of_version_2(tmp_path: Path) -> None:
    machine = host(tmp_path)
    write(tmp_path, RECORDED)
    now = read_sample(Moment(machine, 1.0), find_cgroup(machine, 7, ID), 7)
    assert (now.cpu, now.cpu_user, now.cpu_system, now.cpus) == (48.211337, 30.10245, 18.108887, 0.0)
    assert (now.memory, now.memory_max, now.memory_rss, now.memory_limit) == (37122048, 37122048, 21405696, 0)
    assert now.disks["/dev/nvme0n1"] == Disk(11796480, 40960, 301, 10)
    assert now.disks["253:1"] == Disk(4096, 0, 1, 0), "a device without a name goes by its number"
    later = msgspec.structs.replace(now, at=3.0, cpu=now.cpu + 1.0)
    assert {figure.name: figure.value for figure in figures(machine, now, later)}["cpu_container_usage"] == 0.25


def test_files_larger_than_one_answer_are_read_whole(tmp_path: Path) -> None:
    machine = host(tmp_path)
    nics = "".join(f" veth{n}: {n} 0 0 0 0 0 0 0 {n} 0 0 0 0 0 0 0\n" for n in range(2000))
    write(tmp_path, {**V2, "proc/7/net/dev": f"a\nb\n{nics}"})
    now = read_sample(Moment(machine, 1.0), find_cgroup(machine, 7, ID), 7)
    assert now.nics["veth1999"].sent_bytes == 1999


def test_a_network_namespace_is_read_once_per_moment(tmp_path: Path) -> None:
    machine = host(tmp_path)
    lines = (tmp_path / "proc/7/net/dev").read_text()
    namespace = tmp_path / "namespace"
    namespace.touch()
    for pid in (8, 9):
        write(tmp_path, {f"proc/{pid}/net/dev": lines.replace("eth0", f"eth{pid}")})
        (tmp_path / f"proc/{pid}/ns").mkdir()
        (tmp_path / f"proc/{pid}/ns/net").symlink_to(namespace)
    moment = Moment(machine, 1.0)
    assert moment.nics(8) is moment.nics(9)
    assert set(Moment(machine, 2.0).nics(9)) == {"lo", "eth9"}


def test_cgroup_is_found_by_id_when_the_process_shows_another_root(tmp_path: Path) -> None:
    machine = host(tmp_path)
    write(tmp_path, {**V2, "proc/7/cgroup": "0::/../../elsewhere\n"})
    assert find_cgroup(machine, 7, ID).v2.endswith(f"docker-{ID}.scope")


def sample(at: float, **more: object) -> Sample:
    values: dict[str, object] = {
        "at": at,
        "cpu": at * 0.5,
        "cpu_user": at * 0.4,
        "cpu_system": at * 0.1,
        "host_user": at * 0.8,
        "host_system": at * 0.4,
        "cpus": 0.5,
        "memory": 32 * MIB,
        "memory_max": 40 * MIB,
        "memory_rss": 16 * MIB,
        "memory_limit": 64 * MIB,
        "nics": {"eth0": Nic(int(at * 100), 0, 0, 0, int(at * 50), 0, 0, 0)},
        "disks": {"/dev/sda": Disk(int(at * 10), 0, 0, 0)},
    }
    return Sample(**{**values, **more})  # type: ignore[arg-type]


def test_published_names_and_values() -> None:
    machine = Host(cpus=2, memory=1024 * MIB)
    made = {(f.name, f.part): f.value for f in figures(machine, sample(10), sample(14))}
    assert made["cpu_host_usage", ""] == pytest.approx(0.25)
    assert made["cpu_container_usage", ""] == pytest.approx(1.0)
    assert made["cpu_container_sys_usage", ""] == pytest.approx(0.2)
    assert made["cpu_host_user_usage", ""] == pytest.approx(0.5)
    assert made["mem_percent", ""] == pytest.approx(0.5)
    assert made["mem_rss_percent", ""] == pytest.approx(0.25)
    assert made["bytes_recv", "eth0"] == pytest.approx(100)
    assert made["bytes_send", "eth0"] == pytest.approx(50)
    assert made["io_service_bytes_read", "/dev/sda"] == 140
    assert made["io_service_bytes_read_per_second", "/dev/sda"] == pytest.approx(10)
    names = {f.statsd_name for f in figures(machine, sample(10), sample(14)) if f.part == "eth0"}
    assert {"eth0.bytes.sent", "eth0.err.in", "eth0.drop.out"} <= names


def test_counters_that_begin_anew_give_no_negative_rate() -> None:
    made = figures(Host(cpus=2, memory=MIB), sample(10), sample(14, cpu=0.0, nics={"eth0": Nic(*[0] * 8)}))
    assert all(figure.value >= 0 for figure in made)
    assert "cpu_host_usage" not in {figure.name for figure in made}


def test_series_come_and_go_with_the_workload(tmp_path: Path) -> None:
    machine, world = host(tmp_path), real_world()
    write(tmp_path, V1)
    keeper = MetricsKeeper(world, machine, Notices(world), "a.b.c", 10, [])
    workload = Workload(
        id=ID, app="shop", entrypoint="web", ident="abcdef", labels={"ERU": "1", "z": '"1"', "a": "2"}, env={},
        health=HealthPlan(interval_s=1, timeout_s=1), running=True, pid=7,
    )  # fmt: skip
    keeper.started(workload)
    keeper.started(workload)
    keeper._sample(keeper._tracked[ID], keeper._moment())
    text = "\n".join(keeper.exposition())
    assert f'mem_usage{{containerID="{ID}",hostname="a-b-c",appname="shop",entrypoint="web"' in text
    assert 'orchestrator="ERU",labels="a=2,z=\\"1\\""} 8192' in text
    keeper.stopped(workload)
    assert list(keeper.exposition()) == []


def test_numbers_are_short() -> None:
    assert [number(value) for value in (3.0, 0.25, 1e20, -1)] == ["3", "0.25", "1e+20", "-1"]
