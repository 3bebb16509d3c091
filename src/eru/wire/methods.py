"""Every call of both services on one page: its messages, its kind, its error number.

    from eru.wire import methods as rpc
    node = await core.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1"))

`number` is what a failure of the call carries as numeric gRPC status; 0 means
that the published API gives it none and the standard codes are used, as for all
calls of our own service. `safe`
calls change nothing, so a client may repeat them. `watches` are streams that
follow something until somebody ends them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1

Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)


@dataclass(frozen=True)
class Method(Generic[Req, Resp]):
    """One call. `path` is its HTTP/2 path."""

    service: str
    name: str
    request: type[Req]
    response: type[Resp]
    number: int = 0
    safe: bool = False
    watches: bool = False

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


class UnaryUnary(Method[Req, Resp]):
    """One request, one answer."""


class UnaryStream(Method[Req, Resp]):
    """One request, many answers."""


class StreamStream(Method[Req, Resp]):
    """Many requests, many answers."""


_CORE = "pb.CoreRPC"
_OURS = "eru.v1.Eru"

Info = UnaryUnary(_CORE, "Info", pb.Empty, pb.CoreInfo, safe=True)
WatchServiceStatus = UnaryStream(
    _CORE, "WatchServiceStatus", pb.Empty, pb.ServiceStatus, number=1001, safe=True, watches=True
)
ListNetworks = UnaryUnary(_CORE, "ListNetworks", pb.ListNetworkOptions, pb.Networks, number=1011, safe=True)
ConnectNetwork = UnaryUnary(_CORE, "ConnectNetwork", pb.ConnectNetworkOptions, pb.Network, number=1012)
DisconnectNetwork = UnaryUnary(_CORE, "DisconnectNetwork", pb.DisconnectNetworkOptions, pb.Empty, number=1013)
AddPod = UnaryUnary(_CORE, "AddPod", pb.AddPodOptions, pb.Pod, number=1021)
RemovePod = UnaryUnary(_CORE, "RemovePod", pb.RemovePodOptions, pb.Empty, number=1022)
GetPod = UnaryUnary(_CORE, "GetPod", pb.GetPodOptions, pb.Pod, number=1023, safe=True)
ListPods = UnaryUnary(_CORE, "ListPods", pb.Empty, pb.Pods, number=1024, safe=True)
GetPodResource = UnaryStream(_CORE, "GetPodResource", pb.GetPodOptions, pb.NodeResource, number=1025, safe=True)
AddNode = UnaryUnary(_CORE, "AddNode", pb.AddNodeOptions, pb.Node, number=1031)
RemoveNode = UnaryUnary(_CORE, "RemoveNode", pb.RemoveNodeOptions, pb.Empty, number=1032)
ListPodNodes = UnaryStream(_CORE, "ListPodNodes", pb.ListNodesOptions, pb.Node, number=1033, safe=True)
GetNode = UnaryUnary(_CORE, "GetNode", pb.GetNodeOptions, pb.Node, number=1034, safe=True)
GetNodeEngineInfo = UnaryUnary(_CORE, "GetNodeEngineInfo", pb.GetNodeOptions, pb.Engine, number=1038, safe=True)
SetNode = UnaryUnary(_CORE, "SetNode", pb.SetNodeOptions, pb.Node, number=1035)
GetNodeResource = UnaryUnary(_CORE, "GetNodeResource", pb.GetNodeResourceOptions, pb.NodeResource, number=1037)
GetNodeStatus = UnaryUnary(
    _CORE, "GetNodeStatus", pb.GetNodeStatusOptions, pb.NodeStatusStreamMessage, number=1038, safe=True
)
SetNodeStatus = UnaryUnary(_CORE, "SetNodeStatus", pb.SetNodeStatusOptions, pb.Empty, number=1036)
NodeStatusStream = UnaryStream(_CORE, "NodeStatusStream", pb.Empty, pb.NodeStatusStreamMessage, safe=True, watches=True)
GetWorkloadsStatus = UnaryUnary(_CORE, "GetWorkloadsStatus", pb.WorkloadIDs, pb.WorkloadsStatus, number=1055, safe=True)
SetWorkloadsStatus = UnaryUnary(
    _CORE, "SetWorkloadsStatus", pb.SetWorkloadsStatusOptions, pb.WorkloadsStatus, number=1056
)
WorkloadStatusStream = UnaryStream(
    _CORE,
    "WorkloadStatusStream",
    pb.WorkloadStatusStreamOptions,
    pb.WorkloadStatusStreamMessage,
    safe=True,
    watches=True,
)
CalculateCapacity = UnaryUnary(_CORE, "CalculateCapacity", pb.DeployOptions, pb.CapacityMessage, number=1041, safe=True)
GetWorkload = UnaryUnary(_CORE, "GetWorkload", pb.WorkloadID, pb.Workload, number=1051, safe=True)
GetWorkloads = UnaryUnary(_CORE, "GetWorkloads", pb.WorkloadIDs, pb.Workloads, number=1052, safe=True)
ListWorkloads = UnaryStream(_CORE, "ListWorkloads", pb.ListWorkloadsOptions, pb.Workload, number=1053, safe=True)
ListNodeWorkloads = UnaryUnary(_CORE, "ListNodeWorkloads", pb.GetNodeOptions, pb.Workloads, number=1054, safe=True)
Copy = UnaryStream(_CORE, "Copy", pb.CopyOptions, pb.CopyMessage, number=1061, safe=True)
Send = UnaryStream(_CORE, "Send", pb.SendOptions, pb.SendMessage, number=1062)
SendLargeFile = StreamStream(_CORE, "SendLargeFile", pb.FileOptions, pb.SendMessage, number=1063)
BuildImage = UnaryStream(_CORE, "BuildImage", pb.BuildImageOptions, pb.BuildImageMessage, number=1071)
CacheImage = UnaryStream(_CORE, "CacheImage", pb.CacheImageOptions, pb.CacheImageMessage, number=1072)
RemoveImage = UnaryStream(_CORE, "RemoveImage", pb.RemoveImageOptions, pb.RemoveImageMessage, number=1073)
ListImage = UnaryStream(_CORE, "ListImage", pb.ListImageOptions, pb.ListImageMessage, number=10713, safe=True)
CreateWorkload = UnaryStream(_CORE, "CreateWorkload", pb.DeployOptions, pb.CreateWorkloadMessage, number=1074)
ReplaceWorkload = UnaryStream(_CORE, "ReplaceWorkload", pb.ReplaceOptions, pb.ReplaceWorkloadMessage, number=1075)
RemoveWorkload = UnaryStream(_CORE, "RemoveWorkload", pb.RemoveWorkloadOptions, pb.RemoveWorkloadMessage, number=1075)
DissociateWorkload = UnaryStream(
    _CORE, "DissociateWorkload", pb.DissociateWorkloadOptions, pb.DissociateWorkloadMessage, number=1077
)
ControlWorkload = UnaryStream(
    _CORE, "ControlWorkload", pb.ControlWorkloadOptions, pb.ControlWorkloadMessage, number=1078
)
ExecuteWorkload = StreamStream(
    _CORE, "ExecuteWorkload", pb.ExecuteWorkloadOptions, pb.AttachWorkloadMessage, number=1079
)
ReallocResource = UnaryUnary(_CORE, "ReallocResource", pb.ReallocOptions, pb.ReallocResourceMessage, number=10710)
LogStream = UnaryStream(
    _CORE, "LogStream", pb.LogStreamOptions, pb.LogStreamMessage, number=10711, safe=True, watches=True
)
RunAndWait = StreamStream(_CORE, "RunAndWait", pb.RunAndWaitOptions, pb.AttachWorkloadMessage, number=10712)
RawEngine = UnaryUnary(_CORE, "RawEngine", pb.RawEngineOptions, pb.RawEngineMessage, number=1057)

Plan = UnaryUnary(_OURS, "Plan", v1.PlanRequest, v1.PlanReply, safe=True)
Deploy = UnaryStream(_OURS, "Deploy", v1.DeployRequest, v1.DeployEvent)
Logs = UnaryStream(_OURS, "Logs", v1.LogsRequest, v1.LogLine, safe=True, watches=True)
Events = UnaryStream(_OURS, "Events", v1.EventsRequest, v1.Event, safe=True, watches=True)
Stats = UnaryStream(_OURS, "Stats", v1.StatsRequest, v1.Stat, safe=True)
Attach = StreamStream(_OURS, "Attach", v1.AttachRequest, pb.AttachWorkloadMessage)
Debug = UnaryUnary(_OURS, "Debug", v1.DebugRequest, v1.DebugReply, safe=True)


ALL: dict[str, Method[Any, Any]] = {
    method.path: method for method in list(globals().values()) if isinstance(method, Method)
}
