"""One request of every call that is right and succeeds on `asked_core.Target`; what is wrong differs in one place."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1
from eru.wire.methods import Method

BAG = b'{"cpu-request": 0.1, "cpu-limit": 0.1, "memory-request": 1048576, "memory-limit": 1048576}'
REALLOC = b'{"memory-request": 1048576, "memory-limit": 1048576}'


def deploying(**more: Any) -> pb.DeployOptions:
    """Everything that can be said of a deploy is said."""
    chosen: dict[str, Any] = {
        "name": "fresh",
        "podname": "pod",
        "image": "img",
        "count": 1,
        "entrypoint": pb.EntrypointOptions(
            name="job",
            commands=["sleep", "0"],
            dir="/",
            restart="no",
            publish=["80"],
            log=pb.LogOptions(type="json-file", config={"max-size": "1m"}),
            healthcheck=pb.HealthCheckOptions(tcp_ports=["80"], http_port="80", url="/", code=200),
            hook=pb.HookOptions(after_start=["echo a"], before_stop=["echo b"]),
            sysctls={"net.core.somaxconn": "128"},
        ),
        "node_filter": pb.NodeFilter(includes=["n1", "n2"], excludes=["n3"], labels={}),
        "env": ["A=b"],
        "dns": ["10.0.0.1"],
        "extra_hosts": ["a:10.0.0.2"],
        "networks": {"none": ""},
        "user": "root",
        "labels": {"a": "b"},
        "data": {"/tmp/x": b"x"},
        "modes": {"/tmp/x": pb.FileMode(mode=0o600)},
        "owners": {"/tmp/x": pb.FileOwner(uid=1, gid=1)},
        "resources": {"cpumem": BAG},
        "raw_args": b"{}",
        **more,
    }
    return pb.DeployOptions(**chosen)


def right_requests(method: Method[Any, Any], ids: list[str]) -> list[Message]:
    """One message, or several for a call that takes a stream of them."""
    id = ids[0]
    builds = pb.Builds(stages=["s"], builds={"s": pb.Build(base="img", commands=["true"])})
    status = pb.WorkloadStatus(id=id, running=True, healthy=True, networks={"none": "10.0.0.1"}, extension=b"x", ttl=60)
    known: dict[Method[Any, Any], Message | list[Message]] = {
        rpc.ListNetworks: pb.ListNetworkOptions(podname="pod", driver="bridge"),
        rpc.ConnectNetwork: pb.ConnectNetworkOptions(network="bridge", target=id, ipv4="10.0.0.9"),
        rpc.DisconnectNetwork: pb.DisconnectNetworkOptions(network="bridge", target=id),
        rpc.AddPod: pb.AddPodOptions(name="another", desc="d"),
        rpc.RemovePod: pb.RemovePodOptions(name="empty"),
        rpc.GetPod: pb.GetPodOptions(name="pod"),
        rpc.GetPodResource: pb.GetPodOptions(name="pod"),
        rpc.AddNode: pb.AddNodeOptions(
            nodename="n9",
            podname="pod",
            endpoint="fake://n9",
            labels={"a": "b"},
            resources={"cpumem": b"{}"},
            test=True,
        ),
        rpc.RemoveNode: pb.RemoveNodeOptions(nodename="spare"),
        rpc.ListPodNodes: pb.ListNodesOptions(podname="pod", all=True, labels={}, timeout_in_second=5),
        rpc.GetNode: pb.GetNodeOptions(nodename="n1"),
        rpc.GetNodeEngineInfo: pb.GetNodeOptions(nodename="n1"),
        rpc.SetNode: pb.SetNodeOptions(
            nodename="n1", labels={"a": "b"}, resources={"cpumem": b'{"memory": 8589934592}'}
        ),
        rpc.GetNodeResource: pb.GetNodeResourceOptions(opts=pb.GetNodeOptions(nodename="n1")),
        rpc.GetNodeStatus: pb.GetNodeStatusOptions(nodename="n1"),
        rpc.SetNodeStatus: pb.SetNodeStatusOptions(nodename="n1", ttl=60),
        rpc.GetWorkloadsStatus: pb.WorkloadIDs(IDs=[id]),
        rpc.SetWorkloadsStatus: pb.SetWorkloadsStatusOptions(status=[status]),
        rpc.WorkloadStatusStream: pb.WorkloadStatusStreamOptions(appname="app", entrypoint="web", nodename="n1"),
        rpc.CalculateCapacity: deploying(),
        rpc.GetWorkload: pb.WorkloadID(id=id),
        rpc.GetWorkloads: pb.WorkloadIDs(IDs=[id]),
        rpc.ListWorkloads: pb.ListWorkloadsOptions(appname="app", entrypoint="web", nodename="n1", limit=5),
        rpc.ListNodeWorkloads: pb.GetNodeOptions(nodename="n1"),
        rpc.Copy: pb.CopyOptions(targets={id: pb.CopyPaths(paths=["/tmp/x"])}),
        rpc.Send: pb.SendOptions(
            IDs=[id],
            data={"/tmp/x": b"x"},
            modes={"/tmp/x": pb.FileMode(mode=0o600)},
            owners={"/tmp/x": pb.FileOwner(uid=1, gid=1)},
        ),
        rpc.SendLargeFile: [
            pb.FileOptions(
                ids=[id], dst="/tmp/x", size=2, mode=pb.FileMode(mode=0o600), owner=pb.FileOwner(uid=1), chunk=b"a"
            ),
            pb.FileOptions(
                ids=[id], dst="/tmp/x", size=2, mode=pb.FileMode(mode=0o600), owner=pb.FileOwner(uid=1), chunk=b"b"
            ),
        ],
        rpc.BuildImage: pb.BuildImageOptions(name="built", user="u", uid=1, tags=["t"], builds=builds),
        rpc.CacheImage: pb.CacheImageOptions(podname="pod", nodenames=["n1"], images=["img"]),
        rpc.RemoveImage: pb.RemoveImageOptions(podname="pod", nodenames=["n1"], images=["img"]),
        rpc.ListImage: pb.ListImageOptions(podname="pod", nodenames=["n1"], filter="img"),
        rpc.CreateWorkload: deploying(),
        rpc.ReplaceWorkload: pb.ReplaceOptions(
            deployOpt=deploying(name="app", entrypoint=pb.EntrypointOptions(name="web")),
            filter_labels={},
            copy={"/etc/x": "/etc/y"},
            IDs=[id],
        ),
        rpc.RemoveWorkload: pb.RemoveWorkloadOptions(IDs=[id], force=True),
        rpc.DissociateWorkload: pb.DissociateWorkloadOptions(IDs=[id]),
        rpc.ControlWorkload: pb.ControlWorkloadOptions(IDs=[id], type="restart"),
        rpc.ExecuteWorkload: pb.ExecuteWorkloadOptions(
            workload_id=id, commands=["echo", "a"], envs=["A=b"], workdir="/", repl_cmd=b"x"
        ),
        rpc.ReallocResource: pb.ReallocOptions(id=id, resources={"cpumem": REALLOC}),
        rpc.LogStream: pb.LogStreamOptions(id=id, tail="5", since="5m", until="0m"),
        rpc.RunAndWait: pb.RunAndWaitOptions(deploy_options=deploying(), cmd=b"x"),
        rpc.RawEngine: pb.RawEngineOptions(id=id, op="op", params=b"{}"),
        rpc.Plan: v1.PlanRequest(options=deploying()),
        rpc.Deploy: v1.DeployRequest(options=deploying(), progress=True),
        rpc.Logs: v1.LogsRequest(appname="app", entrypoint="web", tail="5", since="5m"),
        rpc.Attach: v1.AttachRequest(id=id, input=b"x"),
        rpc.Events: v1.EventsRequest(appname="app", entrypoint="web", ids=[id], nodename="n1", since_ns=1, limit=5),
    }
    found = known.get(method, method.request())
    return found if isinstance(found, list) else [found]
