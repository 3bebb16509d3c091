"""What Docker is told for what was asked: pure mappings."""

from __future__ import annotations

import pytest

from eru.engine.contract import CreateSpec, EngineLimits, Stream
from eru.engine.docker.frames import Demux, lines, pieces, stamp_ns
from eru.engine.docker.limits import UNLIMITED, merged, size, update_limits
from eru.engine.docker.mapping import map_create
from eru.engine.docker.names import auth_header, registry_of, split_image
from eru.engine.docker.refused import explain
from eru.engine.docker.settings import DockerSettings, RegistryAuth
from eru.engine.times import point_ns, unix_text
from eru.model.deploy import LogConfig
from eru.model.errors import EngineRefused, InvalidInput

LIMITS = EngineLimits()
SETTINGS = DockerSettings(log=LogConfig(type="journald", config={"a": "b"}))
MiB = 1 << 20


def body(*, limits: EngineLimits = LIMITS, node_ip: str = "10.0.0.1", **spec: object) -> dict:  # type: ignore[type-arg]
    return map_create(CreateSpec(name="a_b_c", image="img", **spec), limits, SETTINGS, node_ip).body  # type: ignore[arg-type]


def host(**spec: object) -> dict:  # type: ignore[type-arg]
    return body(**spec)["HostConfig"]


def cpumem(**params: object) -> dict:  # type: ignore[type-arg]
    return {"cpumem": params}


def test_memory_has_a_reservation_that_docker_accepts() -> None:
    assert host(params=cpumem(memory=64 * MiB))["MemoryReservation"] == 32 * MiB
    small = host(params=cpumem(memory=8 * MiB))
    assert (small["Memory"], small["MemorySwap"], small["MemoryReservation"]) == (8 * MiB, 8 * MiB, 6 * MiB)
    assert host(params=cpumem(memory=UNLIMITED))["Memory"] == 0
    with pytest.raises(EngineRefused, match="4194304 is below 6291456"):
        host(params=cpumem(memory=4 * MiB))
    with pytest.raises(InvalidInput, match="negative"):
        host(params=cpumem(memory=-1))


def test_cpu_limits_and_cores() -> None:
    unbound = host(params=cpumem(cpu=0.29))
    assert (unbound["CpuQuota"], unbound["CpuPeriod"], unbound["CpuShares"]) == (29_000, 100_000, 1024)
    assert host(params=cpumem(cpu=0.001))["CpuQuota"] == 1_000
    assert host(params=cpumem(cpu=0))["CpuQuota"] == 0
    bound = host(params=cpumem(cpu=2.3, cpu_map={"10": 100, "9": 100, "2": 30}, numa_node="1"))
    assert (bound["CpusetCpus"], bound["CpusetMems"], bound["CpuQuota"]) == ("2,9,10", "1", -1)
    assert bound["CpuShares"] == round(1024 * 0.3)
    pool = host(params=cpumem(cpu=0.5, cpu_map={"0": 100, "1": 100}, remap=True))
    assert (pool["CpusetCpus"], pool["CpuQuota"], pool["CpuShares"]) == ("0,1", 50_000, 1024)


def test_a_live_update_never_lifts_the_quota_on_the_way() -> None:
    unbound = update_limits({"cpu": 0.5, "cpu_map": {}, "memory": 32 * MiB}, LIMITS, 4)
    assert (unbound["CpuQuota"], unbound["CpusetCpus"]) == (50_000, "0,1,2,3")
    unlimited = update_limits({"cpu": 0, "cpu_map": {}, "memory": 0}, LIMITS, 1)
    assert (unlimited["CpuQuota"], unlimited["CpusetCpus"], unlimited["Memory"]) == (-1, "0", UNLIMITED)
    pool = update_limits({"cpu": 0, "cpu_map": {"1": 100}, "remap": True}, LIMITS, 4)
    assert (pool["CpusetCpus"], pool["CpuQuota"]) == ("1", -1)
    assert "Memory" not in pool
    with pytest.raises(EngineRefused, match="replace it"):
        update_limits({"volume_changed": True}, LIMITS, 4)


def test_parameters_of_kinds_merge_in_one_order() -> None:
    params = {"storage": {"x": 1, "storage": 5}, "cpumem": {"x": 2}}
    assert merged(params) == {"x": 1, "storage": 5}
    assert list(merged(dict(reversed(params.items())))) == list(merged(params))


def test_network_mode_does_not_depend_on_chance() -> None:
    mapped = map_create(
        CreateSpec(name="n", image="i", networks={"zeta": "10.1.0.9", "alpha": "10.0.0.9"}), LIMITS, SETTINGS, ""
    )
    assert mapped.body["HostConfig"]["NetworkMode"] == "alpha"
    assert mapped.body["NetworkingConfig"]["EndpointsConfig"] == {"alpha": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}}}
    assert mapped.more_networks == [("zeta", "10.1.0.9")]
    assert host()["NetworkMode"] == "host"
    assert host(limits=EngineLimits(network_mode="bridge"))["NetworkMode"] == "bridge"
    assert body(networks={"host": "1.2.3.4"})["NetworkingConfig"]["EndpointsConfig"] == {"host": {}}
    cni = body(networks={"calico": "10.0.0.5"}, labels={"cni": "1"})
    assert cni["Labels"]["ipv4"] == "10.0.0.5"
    assert cni["NetworkingConfig"]["EndpointsConfig"] == {}
    with pytest.raises(InvalidInput, match="'nonsense' is not an IP address"):
        body(networks={"alpha": "nonsense"})


def test_host_network_takes_neither_dns_nor_sysctls() -> None:
    on_host = host(dns=["1.1.1.1"], sysctls={"net.core.somaxconn": "1"})
    assert "Dns" not in on_host
    assert "Sysctls" not in on_host
    bridged = host(networks={"bridge": ""}, dns=["1.1.1.1"], sysctls={"net.core.somaxconn": "1"})
    assert (bridged["Dns"], bridged["Sysctls"]) == (["1.1.1.1"], {"net.core.somaxconn": "1"})
    local = host(networks={"bridge": ""}, limits=EngineLimits(use_local_dns=True))
    assert local["Dns"] == ["10.0.0.1"]


def test_published_ports_are_bound_on_a_bridge_only() -> None:
    bridged = body(networks={"bridge": ""}, publish=["80", "53/udp", "8080:81"])
    assert bridged["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}, "81/tcp": {}}
    assert bridged["HostConfig"]["PortBindings"]["81/tcp"] == [{"HostPort": "8080"}]
    assert "PortBindings" not in host(publish=["80"])
    with pytest.raises(InvalidInput, match="publish '70000'"):
        body(networks={"bridge": ""}, publish=["70000"])


def test_raw_args_arrive_whole() -> None:
    raw = {
        "pid_mod": "host",
        "cap_add": ["NET_ADMIN"],
        "cap_drop": ["CHOWN"],
        "ulimits": [{"Name": "nproc", "Soft": 1, "Hard": 2}],
        "runtime": "runsc",
        "storage_opt": {"size": "1G"},
        "device_requests": [{"Driver": "nvidia", "DeviceIDs": ["0"], "Capabilities": [["gpu"]]}],
        "unknown": 1,
    }
    made = host(raw_args=raw)
    assert (made["PidMode"], made["CapDrop"], made["Runtime"]) == ("host", ["CHOWN"], "runsc")
    assert made["Ulimits"] == [{"Name": "nproc", "Soft": 1, "Hard": 2}]
    assert made["StorageOpt"] == {"size": "1G"}
    [gpu] = made["DeviceRequests"]
    assert gpu == {"Driver": "nvidia", "Count": 0, "DeviceIDs": ["0"], "Capabilities": [["gpu"]], "Options": {}}
    assert "DeviceRequests" not in host()
    with pytest.raises(InvalidInput, match="raw_args"):
        host(raw_args={"cap_add": 3})


def test_privileged_means_root_unless_a_user_is_named() -> None:
    assert (body(privileged=True)["User"], host(privileged=True)["CapAdd"]) == ("0", ["SYS_ADMIN"])
    assert body(privileged=True, user="me")["User"] == "me"
    assert body()["User"] == ""


def test_open_files_come_from_configuration() -> None:
    assert host()["Ulimits"] == [{"Name": "nofile", "Soft": 65535, "Hard": 65535}]
    assert host(limits=EngineLimits(nofile_soft=0, nofile_hard=0))["Ulimits"] == []


def test_volumes_in_all_their_forms() -> None:
    volumes = ["/a:/b", "/c:/d:ro", "/e:/f:r:1G:0:0:0:0", "$ROOT/${SUB}x:/g:rwm", "/h:/i:wr"]
    made = body(params={"storage": {"volumes": volumes, "storage": 3 << 30}}, env=["ROOT=/r", "SUB=s", "NOEQUALS"])
    assert made["HostConfig"]["Binds"] == ["/a:/b:rw", "/c:/d:ro", "/e:/f:ro", "/r/sx:/g:rw", "/h:/i:rw"]
    assert set(made["Volumes"]) == {"/b", "/d", "/f", "/g", "/i"}
    assert made["HostConfig"]["StorageOpt"] == {"size": str(2 << 30)}
    with pytest.raises(InvalidInput, match="source:destination"):
        body(params={"storage": {"volumes": ["/only"]}})


def test_disk_quotas() -> None:
    made = host(params={"storage": {"iops_options": {"/dev/sda": "100:0:1M:2M"}}})
    assert made["BlkioDeviceReadIOps"] == [{"Path": "/dev/sda", "Rate": 100}]
    assert "BlkioDeviceWriteIOps" not in made
    assert made["BlkioDeviceWriteBps"] == [{"Path": "/dev/sda", "Rate": 2 * MiB}]
    with pytest.raises(InvalidInput, match="riops:wiops"):
        host(params={"storage": {"iops_options": {"/dev/sda": "1:2"}}})
    with pytest.raises(InvalidInput, match="is no size"):
        size("many")


def test_log_drivers() -> None:
    plain = host()["LogConfig"]
    assert plain == {
        "Type": "",
        "Config": {"mode": "non-blocking", "max-buffer-size": "4m", "tag": "a_b_c {{.ID}}"},
    }
    assert host(lambda_=True)["LogConfig"] == {"Type": "json-file", "Config": {}}
    debug = host(debug=True, log=LogConfig(type="syslog"))["LogConfig"]
    assert (debug["Type"], debug["Config"]["a"]) == ("journald", "b")
    assert host(log=LogConfig(type="none"))["LogConfig"] == {"Type": "none", "Config": {}}


def test_restart_policies() -> None:
    assert host()["RestartPolicy"] == {"Name": "no"}
    assert host(restart="on-failure:3")["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host(restart="always:3")["RestartPolicy"] == {"Name": "always"}
    with pytest.raises(InvalidInput, match="number of retries"):
        host(restart="on-failure:often")


def test_stdin_and_the_node_address() -> None:
    made = body(open_stdin=True, env=["A=1"])
    assert (made["OpenStdin"], made["Tty"], made["StdinOnce"]) == (True, True, False)
    made = body(open_stdin=True, tty=False, env=["A=1"])
    assert (made["OpenStdin"], made["Tty"], made["StdinOnce"]) == (True, False, True)
    assert made["Env"] == ["A=1", "ERU_NODE_IP=10.0.0.1"]
    with pytest.raises(InvalidInput, match="image is empty"):
        map_create(CreateSpec(name="n", image=""), LIMITS, SETTINGS, "")


@pytest.mark.parametrize(
    ("image", "name", "tag", "registry"),
    [
        ("busybox", "busybox", "", "docker.io"),
        ("busybox:1", "busybox", "1", "docker.io"),
        ("team/app:1", "team/app", "1", "docker.io"),
        ("localhost:5000/app", "localhost:5000/app", "", "localhost:5000"),
        ("hub.example.com:5000/team/app:v2", "hub.example.com:5000/team/app", "v2", "hub.example.com:5000"),
        ("hub.example.com/app@sha256:00", "hub.example.com/app", "sha256:00", "hub.example.com"),
    ],
)
def test_image_names(image: str, name: str, tag: str, registry: str) -> None:
    assert split_image(image) == (name, tag)
    assert registry_of(image) == registry


def test_credentials_go_to_their_registry_only() -> None:
    auths = {"hub.example.com:5000": RegistryAuth(username="u", password="secret")}
    empty = auth_header("busybox", auths)
    assert auth_header("hub.example.com/app", auths) == empty
    assert auth_header("hub.example.com:5000/app", auths) != empty
    assert "secret" not in repr(auths)


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def test_frames_cut_anywhere_come_out_whole() -> None:
    data = frame(1, b"one\n") + frame(2, b"bad\n") + frame(1, b"") + frame(1, b"two")
    for step in (1, 3, 7, 100):
        demux = Demux()
        got = [piece for start in range(0, len(data), step) for piece in demux.feed(data[start : start + step])]
        assert b"".join(piece for stream, piece in got if stream is Stream.STDOUT) == b"one\ntwo"
        assert b"".join(piece for stream, piece in got if stream is Stream.STDERR) == b"bad\n"
    whole = Demux(whole=True)
    assert [piece for start in range(len(data)) for piece in whole.feed(data[start : start + 1])] == [
        (Stream.STDOUT, b"one\n"),
        (Stream.STDERR, b"bad\n"),
        (Stream.STDOUT, b"two"),
    ]


async def test_a_line_of_several_frames_has_the_first_time() -> None:
    async def chunks():  # type: ignore[no-untyped-def]
        yield frame(1, b"2026-01-01T00:00:01.000000005Z " + b"x" * 10)
        yield frame(1, b"2026-01-01T00:00:02Z y\n")
        yield frame(1, b"2026-01-01T00:00:03Z z")

    got = [line async for line in lines(pieces(chunks(), tty=False, whole=True), stamped=True, tty=False)]
    assert [line.data for line in got] == [b"x" * 10 + b"y\n", b"z"]
    assert got[0].time_ns == stamp_ns("2026-01-01T00:00:01.000000005Z")
    assert got[0].time_ns % 10**9 == 5


def test_points_in_time() -> None:
    now = 1_800_000_000_000_000_000
    assert point_ns("1700000000.5", now) == 1_700_000_000_500_000_000
    assert point_ns("1h30m", now) == now - 5_400_000_000_000
    assert point_ns("2026-01-31T12:00:00Z", now) == stamp_ns("2026-01-31T12:00:00Z")
    assert point_ns("2026-01-31T12:00:00.123456789+01:00", now) == stamp_ns("2026-01-31T11:00:00.123456789Z")
    assert unix_text(1_700_000_000_000_000_007) == "1700000000.000000007"
    for text in ("yesterday", "10", "10x"):
        if text != "10":
            with pytest.raises(InvalidInput, match="is no time"):
                point_ns(text, now)


def test_refusals_say_what_to_set() -> None:
    text = explain(
        "OCI runtime create failed: container_linux.go:380: starting container process caused: process_linux.go:545: "
        "container init caused: process_linux.go:508: setting rlimits for ready process caused: error setting rlimit "
        "type 7: operation not permitted: unknown"
    )
    assert "refused ulimit nofile" in text
    assert "docker.nofile" in text
    assert "raw_args" in text
    assert explain("Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available").count("2.00 cores") == 1
    assert explain("something   new\nhappened") == "something new happened"
