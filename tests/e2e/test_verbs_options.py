"""The rarer options of a deploy: privileges, debug, ports, fixed addresses, volumes, NUMA, strategies, plugins."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from eru.wire import core_pb2 as pb
from support.docker import free_port
from support.verbs import FOREVER, NODE, M, Verbs, bag, options, until, verbs_core

pytestmark = pytest.mark.docker
SECOND = "other"


@pytest.fixture(scope="module")
def core(docker_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verbs]:
    folder: Path = tmp_path_factory.mktemp("options")
    with verbs_core(folder, docker_endpoint) as verbs:
        verbs.add_node(SECOND)
        yield verbs


@pytest.fixture
def verbs(core: Verbs) -> Iterator[Verbs]:
    yield core
    core.remove_all()
    assert core.containers() == set()
    assert core.usage()["memory"] == 0


@pytest.fixture
def network(verbs: Verbs) -> Iterator[str]:
    """A macvlan network that leads nowhere."""
    name = f"{verbs.identifier}-mac"[-40:]
    number = free_port()
    parent = f"ev{number}"
    subprocess.run(["ip", "link", "add", parent, "type", "veth", "peer", "name", f"{parent}p"], check=True)
    try:
        options = ["--subnet", f"10.213.{number % 256}.0/24", "-o", f"parent={parent}"]
        assert verbs.docker("network", "create", "-d", "macvlan", *options, name), "docker made no network"
        yield name
        verbs.remove_all()
        verbs.docker("network", "rm", name)
    finally:
        subprocess.run(["ip", "link", "del", parent], check=True)


def test_a_privileged_one_may_do_everything_as_root(verbs: Verbs) -> None:
    """Where the machine's own rights do not suffice for that, Docker's reason is told."""
    [made] = verbs.core.CreateWorkload(options(entry={"privileged": True}))
    if made.error:
        assert "caps: operation not permitted" in made.error
        return
    id = made.id
    found = verbs.inspect(id)
    assert found["HostConfig"]["Privileged"]
    assert "SYS_ADMIN" in found["HostConfig"]["CapAdd"]
    assert verbs.inside(id, "id", "-u") == "0"
    assert verbs.core.GetWorkload(pb.WorkloadID(id=id)).privileged


def test_root_by_name_needs_no_password_file(verbs: Verbs, tmp_path: Path) -> None:
    """As the published core, which ignores the name; Docker itself refuses a name that it cannot look up."""
    image = f"{verbs.identifier}-bare".lower()
    (tmp_path / "Dockerfile").write_text("FROM bb\nRUN rm -f /etc/passwd\n")
    assert verbs.docker("build", "-q", "-t", image, str(tmp_path)).startswith("sha256:")
    try:
        [id] = verbs.deploy(image=image, user="root", ignore_pull=True)
        assert verbs.inside(id, "id", "-u") == "0"
        verbs.remove_all()
    finally:
        verbs.docker("rmi", "-f", image)


def test_debug_logs_where_the_site_says(verbs: Verbs) -> None:
    """The default is journald, which Docker takes even where nobody reads it."""
    [message] = verbs.core.CreateWorkload(options(debug=True))
    if message.success:
        assert verbs.inspect(message.id)["HostConfig"]["LogConfig"]["Type"] == "journald"
    else:
        assert "journald" in message.error


def test_another_runtime_and_storage_options_go_to_docker(verbs: Verbs) -> None:
    [id] = verbs.deploy(raw_args=json.dumps({"runtime": "runc"}).encode())
    assert verbs.inspect(id)["HostConfig"]["Runtime"] == "runc"
    [unknown] = verbs.core.CreateWorkload(options(raw_args=json.dumps({"runtime": "nonesuch"}).encode()))
    assert "nonesuch" in unknown.error
    [sized] = verbs.core.CreateWorkload(options(raw_args=json.dumps({"storage_opt": {"size": "1G"}}).encode()))
    if sized.success:
        assert verbs.inspect(sized.id)["HostConfig"]["StorageOpt"] == {"size": "1G"}
    else:
        assert "storage" in sized.error.lower() or "size" in sized.error


def test_published_ports_answer_and_are_told(verbs: Verbs) -> None:
    port = str(free_port())
    serving = ["sh", "-c", f"mkdir /w; echo served > /w/index.html; httpd -f -p {port} -h /w"]
    [id] = verbs.deploy(commands=serving, networks={"host": ""}, entry={"publish": [port]})
    status = pb.WorkloadStatus(id=id, running=True, healthy=True, networks={"host": "127.0.0.1"})
    verbs.core.SetWorkloadsStatus(pb.SetWorkloadsStatusOptions(status=[status]))
    assert dict(verbs.core.GetWorkload(pb.WorkloadID(id=id)).publish) == {"host": f"127.0.0.1:{port}"}
    get = f"wget -q -O - http://127.0.0.1:{port}/"
    until(lambda: verbs.inside(id, "sh", "-c", get) == "served", "the page")


def test_a_fixed_address_on_a_macvlan_network_at_deploy_and_later(verbs: Verbs, network: str) -> None:
    found = json.loads(verbs.docker("network", "inspect", network))
    prefix = found[0]["IPAM"]["Config"][0]["Subnet"].removesuffix("0/24")
    [id] = verbs.deploy(networks={network: f"{prefix}77"})
    assert verbs.inspect(id)["NetworkSettings"]["Networks"][network]["IPAddress"] == f"{prefix}77"
    gone = pb.DisconnectNetworkOptions(network=network, target=id, force=True)
    verbs.core.DisconnectNetwork(gone)
    assert network not in verbs.inspect(id)["NetworkSettings"]["Networks"]
    verbs.core.ConnectNetwork(pb.ConnectNetworkOptions(network=network, target=id, ipv4=f"{prefix}78"))
    assert verbs.inspect(id)["NetworkSettings"]["Networks"][network]["IPAddress"] == f"{prefix}78"
    listed = verbs.core.ListNetworks(pb.ListNetworkOptions(podname="pod", driver="macvlan")).networks
    assert network in {found.name for found in listed}


def test_strategies_spread_over_real_nodes(verbs: Verbs) -> None:
    def nodes(app: str) -> Counter[str]:
        found = verbs.core.ListWorkloads(pb.ListWorkloadsOptions(appname=app))
        return Counter(each.nodename for each in found)

    verbs.deploy(app="even", count=4)
    assert nodes("even") == {NODE: 2, SECOND: 2}
    verbs.deploy(app="each", count=2, deploy_strategy=pb.DeployOptions.EACH)
    assert nodes("each") == {NODE: 2, SECOND: 2}
    verbs.deploy(app="fill", count=1, node_filter=pb.NodeFilter(includes=[NODE]))
    verbs.deploy(app="fill", count=2, deploy_strategy=pb.DeployOptions.FILL)
    assert nodes("fill") == {NODE: 2, SECOND: 2}
    verbs.deploy(app="global", count=2, deploy_strategy=pb.DeployOptions.GLOBAL)
    assert sum(nodes("global").values()) == 2
    verbs.deploy(app="drained", count=2, deploy_strategy=pb.DeployOptions.DRAINED)
    assert sum(nodes("drained").values()) == 2
    [limited] = verbs.core.CreateWorkload(options(app="even", count=3, nodes_limit=2))
    assert limited.error.startswith("reached nodelimit, a node can host at most 2 instances")
    assert "hosts 2 instances" in limited.error


def test_a_volume_of_the_node_is_mounted_and_counted_and_docker_cannot_change_it(verbs: Verbs, tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    storage = json.dumps({"volumes": [f"{place}:10G"], "storage": "20G"}).encode()
    verbs.core.SetNode(pb.SetNodeOptions(nodename=NODE, resources={"storage": storage}))
    asked = {"volumes-request": ["AUTO:/data:rw:1G"], "volumes-limit": ["AUTO:/data:rw:1G"]}
    resources = {**bag(memory_request=16 * M, memory_limit=16 * M), "storage": json.dumps(asked).encode()}
    [id] = verbs.deploy(resources=resources, node_filter=pb.NodeFilter(includes=[NODE]))
    [bind] = verbs.inspect(id)["HostConfig"]["Binds"]
    assert bind.startswith(f"{place}")
    assert ":/data" in bind
    verbs.inside(id, "sh", "-c", "echo kept > /data/file")

    def used() -> int:
        node = verbs.core.GetNode(pb.GetNodeOptions(nodename=NODE))
        return int(json.loads(node.resource_usage)["storage"]["volumes"][str(place)])

    assert used() == 1 << 30
    more = json.dumps({"volumes-request": ["AUTO:/data:rw:1G"], "volumes-limit": ["AUTO:/data:rw:1G"]}).encode()
    with pytest.raises(grpc.RpcError) as caught:
        verbs.core.ReallocResource(pb.ReallocOptions(id=id, resources={"storage": more}))
    assert "replace it instead" in str(caught.value.details())
    assert used() == 1 << 30
    assert verbs.inside(id, "cat", "/data/file") == "kept"
    too_large = {**resources, "storage": json.dumps({"volumes-request": ["AUTO:/d:rw:99G"]}).encode()}
    [refused] = verbs.core.CreateWorkload(options(resources=too_large))
    assert "storage" in refused.error
    verbs.remove_all()
    assert used() == 0


def test_numa_memory_stays_beside_its_cores(verbs: Verbs) -> None:
    """One NUMA node is all this machine has; the workload is held to it all the same."""
    numa = json.dumps({"cpu": 1, "share": 100, "memory": 4 << 30, "numa-cpu": ["0"], "numa-memory": [str(2 << 30)]})
    where = {"nodename": "numa", "podname": "pod", "endpoint": verbs.engine, "test": True}
    verbs.core.AddNode(pb.AddNodeOptions(**where, resources={"cpumem": numa.encode()}))
    try:
        bound = bag(cpu_request=1, cpu_limit=1, memory_request=16 * M, memory_limit=16 * M, cpu_bind=True)
        [id] = verbs.deploy(resources=bound, node_filter=pb.NodeFilter(includes=["numa"]))
        host = verbs.inspect(id)["HostConfig"]
        assert (host["CpusetCpus"], host["CpusetMems"]) == ("0", "0")
        grant = json.loads(verbs.core.GetWorkload(pb.WorkloadID(id=id)).resources)["cpumem"]
        assert (grant["numa_node"], grant["numa_memory"]) == ("0", {"0": 16 * M})
        verbs.remove_all()
    finally:
        verbs.core.RemoveNode(pb.RemoveNodeOptions(nodename="numa"))


def test_many_lambdas_at_once_and_their_client_disappears(verbs: Verbs) -> None:
    def requests(commands: list[str], count: int) -> Iterator[pb.RunAndWaitOptions]:
        yield pb.RunAndWaitOptions(deploy_options=options(app="many", commands=commands, count=count))

    calls = [verbs.core.RunAndWait(requests(["sh", "-c", f"echo {n}; exit {n}"], 2)) for n in range(6)]
    for number, call in enumerate(calls):
        said = [message.data for message in call if message.std_stream_type != pb.TYPEWORKLOADID]
        assert sorted(said) == sorted([f"{number}\n".encode(), f"[exitcode] {number}".encode()] * 2)
    leaving = [verbs.core.RunAndWait(requests(FOREVER, 2)) for _ in range(4)]
    for call in leaving:
        next(call)
    for call in leaving:
        call.cancel()
    until(lambda: not verbs.containers() and not verbs.recorded("many"), "the end of all of them")
