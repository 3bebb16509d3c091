"""Every option of a deploy as the container has it; all or nothing; only as planned."""

from __future__ import annotations

import json

import pytest

from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
from support.verbs import FOREVER, NODE, POD, M, Verbs, bag, options

pytestmark = pytest.mark.docker
NOFILE = {"Name": "nofile", "Soft": 1000, "Hard": 2000}


def test_names_labels_environment_and_limits(verbs: Verbs) -> None:
    [id] = verbs.deploy(
        labels={"mine": "yes"},
        env=["A=b", "C=d=e"],
        user="1000:1000",
        resources=bag(cpu_request=0.5, cpu_limit=1.5, memory_request=16 * M, memory_limit=32 * M),
        entry={
            "dir": "/tmp",
            "restart": "on-failure:3",
            "healthcheck": pb.HealthCheckOptions(tcp_ports=["80"]),
            "log": pb.LogOptions(type="json-file", config={"max-size": "5m"}),
        },
    )
    found = verbs.inspect(id)
    config, host = found["Config"], found["HostConfig"]
    assert found["Name"].startswith("/verbs_main_")
    name = found["Name"][1:]
    assert {"A=b", "C=d=e", "APP_NAME=verbs", f"ERU_POD={POD}", f"ERU_NODE_NAME={NODE}"} <= set(config["Env"])
    assert "ERU_WORKLOAD_SEQ=0" in config["Env"]
    labels = config["Labels"]
    assert (labels["ERU"], labels["eru.nodename"], labels["eru.coreid"]) == ("1", NODE, verbs.identifier)
    assert labels["mine"] == "yes"
    assert json.loads(labels["ERU_META"])["HealthCheck"]["TCPPorts"] == ["80"]
    assert (config["User"], config["WorkingDir"], config["Cmd"]) == ("1000:1000", "/tmp", FOREVER)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    logs = {"max-size": "5m", "mode": "non-blocking", "max-buffer-size": "4m", "tag": name + " {{.ID}}"}
    assert host["LogConfig"] == {"Type": "json-file", "Config": logs}
    assert (host["CpuPeriod"], host["CpuQuota"], host["CpuShares"]) == (100000, 150000, 1024)
    assert (host["Memory"], host["MemorySwap"], host["MemoryReservation"]) == (32 * M, 32 * M, 16 * M)
    assert host["NetworkMode"] == "none"
    assert verbs.inside(id, "sh", "-c", "echo $A $PWD $(id -u)") == "b /tmp 1000"


def test_raw_arguments_capabilities_and_sysctls(verbs: Verbs) -> None:
    raw = {"cap_add": ["NET_ADMIN"], "cap_drop": ["MKNOD"], "pid_mod": "host", "ulimits": [NOFILE]}
    sysctls = {"net.ipv4.ip_unprivileged_port_start": "0"}
    [id] = verbs.deploy(raw_args=json.dumps(raw).encode(), entry={"sysctls": sysctls}, open_stdin=True)
    found = verbs.inspect(id)
    host = found["HostConfig"]
    assert (host["CapAdd"], host["CapDrop"], host["PidMode"]) == (["NET_ADMIN"], ["MKNOD"], "host")
    assert host["Ulimits"] == [NOFILE]
    assert host["Sysctls"] == sysctls
    assert (found["Config"]["OpenStdin"], found["Config"]["Tty"]) == (True, True)
    # Not the soft limit: what `runc exec` starts now and then has the hard one for both (opencontainers/runc#4195).
    assert verbs.inside(id, "sh", "-c", "ulimit -Hn") == "2000"


def test_bridge_with_names_ports_and_files(verbs: Verbs) -> None:
    [message] = verbs.core.CreateWorkload(
        options(
            networks={"bridge": ""},
            dns=["192.0.2.53"],
            extra_hosts=["friend:192.0.2.7"],
            data={"/srv/hello": b"hello\n"},
            modes={"/srv/hello": pb.FileMode(mode=0o640)},
            owners={"/srv/hello": pb.FileOwner(uid=5, gid=6)},
            entry={"hook": pb.HookOptions(after_start=["cat /srv/hello"], force=True)},
        )
    )
    assert (message.error, message.success, message.hook) == ("", True, b"hello\n")
    assert verbs.inside(message.id, "ls", "-ln", "/srv/hello").split()[:4] == ["-rw-r-----", "1", "5", "6"]
    assert "192.0.2.7\tfriend" in verbs.inside(message.id, "cat", "/etc/hosts")
    assert "192.0.2.53" in verbs.inside(message.id, "cat", "/etc/resolv.conf")


@pytest.mark.parametrize(
    "wrong",
    [
        {"commands": ["nonesuch"]},
        {"entry": {"hook": pb.HookOptions(after_start=["false"], force=True)}},
        {"entry": {"restart": "sometimes"}},
        {"networks": {"no-such-network": ""}},
        {"raw_args": b"{nonsense"},
        {"resources": bag(memory_request=-1)},
    ],
    ids=["command", "hook", "restart", "network", "raw", "resources"],
)
def test_what_fails_says_so_and_leaves_nothing(verbs: Verbs, wrong: dict[str, object]) -> None:
    [message] = verbs.core.CreateWorkload(options(**wrong))
    assert message.error
    assert not message.success
    assert verbs.containers() == set()


def test_all_or_nothing(verbs: Verbs) -> None:
    """The second instance cannot run, so the first one must not stay."""
    hook = pb.HookOptions(after_start=["sh -c '[ $ERU_WORKLOAD_SEQ != 1 ]'"], force=True)
    fails = ["sh", "-c", "[ $ERU_WORKLOAD_SEQ = 1 ] && exit 1; while :; do sleep 0.1; done"]
    deploy = options(count=3, commands=fails, entry={"hook": hook})
    events = list(verbs.ours.Deploy(v1.DeployRequest(options=deploy, all_or_nothing=True)))
    assert len(events) == 3
    assert all(event.instance.error and not event.instance.success for event in events)
    assert verbs.containers() == set()
    assert verbs.recorded() == []
    good = list(verbs.ours.Deploy(v1.DeployRequest(options=options(count=3), all_or_nothing=True)))
    assert [event.instance.success for event in good] == [True] * 3


def test_only_as_planned(verbs: Verbs) -> None:
    plan = verbs.ours.Plan(v1.PlanRequest(options=options(count=2)))
    assert [place.nodename for place in plan.placements] == [NODE, NODE]
    verbs.deploy()
    refused = list(verbs.ours.Deploy(v1.DeployRequest(options=options(count=2), if_revision=plan.revision)))
    assert [bool(event.instance.error) for event in refused] == [True]
    assert len(verbs.containers()) == 1
    again = verbs.ours.Plan(v1.PlanRequest(options=options(count=2)))
    made = list(verbs.ours.Deploy(v1.DeployRequest(options=options(count=2), if_revision=again.revision)))
    assert [event.instance.success for event in made] == [True, True]
