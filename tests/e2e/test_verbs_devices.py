"""What deploys ask of a machine beyond CPU and memory: networks of a plugin, speed of disks, devices."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eru.wire import core_pb2 as pb
from support.network_driver import NetworkDriver, network_driver
from support.verbs import NODE, M, Verbs, bag, options, verbs_core

pytestmark = pytest.mark.docker
SUBNET = "10.213.11.0/24"


@pytest.fixture(scope="module")
def core(docker_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verbs]:
    with verbs_core(tmp_path_factory.mktemp("devices"), docker_endpoint) as verbs:
        yield verbs


@pytest.fixture
def verbs(core: Verbs) -> Iterator[Verbs]:
    yield core
    core.remove_all()
    assert core.containers() == set()


@pytest.fixture
def plugin(verbs: Verbs) -> Iterator[tuple[NetworkDriver, str]]:
    """A network plugin of somebody else, and a network made with it."""
    name = f"plug{os.getpid()}"
    with network_driver(name) as driver:
        try:
            made = verbs.docker("network", "create", "-d", name, "--subnet", SUBNET, name)
            assert made, f"docker made no network, asked {driver.calls()}"
            yield driver, name
        finally:
            verbs.remove_all()
            verbs.docker("network", "rm", name)


def test_a_network_of_a_plugin_at_deploy_and_later(verbs: Verbs, plugin: tuple[NetworkDriver, str]) -> None:
    driver, network = plugin
    [id, other] = [verbs.deploy(networks={network: address})[0] for address in ("10.213.11.77", "")]
    assert verbs.inspect(id)["NetworkSettings"]["Networks"][network]["IPAddress"] == "10.213.11.77"
    assert "10.213.11.77/24" in verbs.inside(id, "ip", "addr", "show", "dev", "plug0")
    assert "1 packets received" in verbs.inside(id, "ping", "-c1", "-W5", "10.213.11.1")
    assert verbs.inspect(other)["NetworkSettings"]["Networks"][network]["IPAddress"].startswith("10.213.11.")

    listed = verbs.core.ListNetworks(pb.ListNetworkOptions(podname="pod", driver=driver.name)).networks
    assert [(found.name, list(found.subnets)) for found in listed] == [(network, [SUBNET])]
    verbs.core.DisconnectNetwork(pb.DisconnectNetworkOptions(network=network, target=id))
    assert network not in verbs.inspect(id)["NetworkSettings"]["Networks"]
    joined = verbs.core.ConnectNetwork(pb.ConnectNetworkOptions(network=network, target=id, ipv4="10.213.11.78"))
    assert [address.partition("/")[0] for address in joined.subnets] == ["10.213.11.78"]
    assert "10.213.11.78/24" in verbs.inside(id, "ip", "addr")

    replacing = pb.ReplaceOptions(deployOpt=options(networks={}), networkinherit=True, IDs=[other])
    [replaced] = verbs.core.ReplaceWorkload(replacing)
    assert not replaced.error
    assert network in verbs.inspect(replaced.create.id)["NetworkSettings"]["Networks"]
    verbs.remove_all()
    assert driver.calls().count("NetworkDriver.CreateEndpoint") == driver.calls().count("NetworkDriver.DeleteEndpoint")


def test_a_plugin_that_refuses_is_told_and_leaves_nothing(verbs: Verbs, plugin: tuple[NetworkDriver, str]) -> None:
    _, network = plugin
    [refused] = verbs.core.CreateWorkload(options(networks={network: "10.99.0.1"}))
    assert not refused.success
    assert "10.99.0.1" in refused.error or "subnet" in refused.error
    assert verbs.containers() == set()


def block_device(folder: Path) -> tuple[Path, str]:
    """A whole disk of this machine, whichever; its node and `major:minor`."""
    for found in sorted(Path("/sys/block").iterdir()):
        number = (found / "dev").read_text().strip()
        node = Path("/dev", found.name)
        if not node.exists():
            node = folder / found.name
            major, minor = map(int, number.split(":"))
            os.mknod(node, 0o600 | stat.S_IFBLK, os.makedev(major, minor))
        return node, number
    raise RuntimeError("this machine has no block device, not even a loop one")


def throttles(pid: int) -> dict[str, str]:
    """What the kernel holds a process to: `riops`, `wiops`, `rbps`, `wbps` -> lines of the cgroup's files."""
    groups = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    v1 = next((path for _, names, path in groups if "blkio" in names.split(",")), None)
    if v1 is None:
        [v2] = [path for _, names, path in groups if not names]
        words = Path(f"/sys/fs/cgroup{v2}/io.max").read_text().split()
        return {key: f"{words[0]} {value}" for key, _, value in (word.partition("=") for word in words[1:])}
    names = {"riops": "read_iops", "wiops": "write_iops", "rbps": "read_bps", "wbps": "write_bps"}
    place = Path(f"/sys/fs/cgroup/blkio{v1}")
    return {key: (place / f"blkio.throttle.{name}_device").read_text().strip() for key, name in names.items()}


def test_the_speed_of_a_disk_is_counted_and_held_by_the_kernel(verbs: Verbs, tmp_path: Path) -> None:
    device, number = block_device(tmp_path)
    place = tmp_path / "disk"
    place.mkdir()
    has = json.dumps({"disks": [f"{device}:{place}:1000:1000:100M:100M"], "storage": "10G"}).encode()
    verbs.core.SetNode(pb.SetNodeOptions(nodename=NODE, resources={"storage": has}))
    volume = [f"{place}:/data:rw:0:300:400:1M:2M"]
    storage = json.dumps({"volumes-request": volume, "volumes-limit": volume}).encode()
    resources = {**bag(memory_request=16 * M, memory_limit=16 * M), "storage": storage}
    ids = verbs.deploy(resources=resources, count=2)

    host = verbs.inspect(ids[0])["HostConfig"]
    told = {name: host[f"BlkioDevice{name}"] for name in ("ReadIOps", "WriteIOps", "ReadBps", "WriteBps")}
    rates = {"ReadIOps": 300, "WriteIOps": 400, "ReadBps": M, "WriteBps": 2 * M}
    assert told == {name: [{"Path": str(device), "Rate": rate}] for name, rate in rates.items()}
    held = throttles(verbs.inspect(ids[0])["State"]["Pid"])
    assert held == {
        "riops": f"{number} 300",
        "wiops": f"{number} 400",
        "rbps": f"{number} {M}",
        "wbps": f"{number} {2 * M}",
    }

    def left() -> Any:
        [disk] = json.loads(verbs.core.GetNode(pb.GetNodeOptions(nodename=NODE)).resource_usage)["storage"]["disks"]
        return disk["read_IOPS"], disk["write_IOPS"], disk["read_bps"], disk["write_bps"]

    assert left() == (600, 800, 2 * M, 4 * M)
    [refused] = verbs.core.CreateWorkload(options(resources=resources))
    assert "write_iops: 1 node short by at least 200" in refused.error
    verbs.remove_all()
    assert left() == (0, 0, 0, 0)


def test_gpus_are_counted_and_docker_is_told_which(verbs: Verbs) -> None:
    """Without a GPU the request as Docker keeps it is all there is to see; its own refusal to start says the rest."""
    products = {"gpu": json.dumps({"prod_count_map": {"test-gpu": 2}}).encode()}
    verbs.core.SetNode(pb.SetNodeOptions(nodename=NODE, resources=products))
    ask = {"Driver": "nvidia", "DeviceIDs": ["1"], "Capabilities": [["gpu"]]}
    raw = json.dumps({"device_requests": [ask]}).encode()
    one = {**bag(memory_request=16 * M, memory_limit=16 * M), "gpu": b'{"prod_count_map": {"test-gpu": 1}}'}
    [made] = verbs.core.CreateWorkload(options(resources=one, raw_args=raw))
    if made.success:
        [told] = verbs.inspect(made.id)["HostConfig"]["DeviceRequests"]
        assert (told["Driver"], told["DeviceIDs"], told["Capabilities"]) == ("nvidia", ["1"], [["gpu"]])
    else:
        assert "device driver" in made.error
        assert "nvidia" in made.error
        assert verbs.containers() == set()
    verbs.deploy(resources=one, count=2)
    [refused] = verbs.core.CreateWorkload(options(resources=one))
    assert "not enough resource" in refused.error
    assert "test-gpu" in refused.error
