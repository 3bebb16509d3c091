"""Pods."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from eru.core.app import Core
from eru.core.ops import accounting, pods
from eru.core.service.parts import mapped
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.convert.deploy import checked_text
from eru.wire.convert.nodes import pod_message, resource_message
from eru.wire.routes import Call, Route, stream, unary


def account_message(account: accounting.Account | tuple[str, str]) -> pb.NodeResource:
    """A node that could not be read has its reason among the diffs."""
    if isinstance(account, tuple):
        name, reason = account
        return resource_message(name, None, None, [reason])
    return resource_message(account.name, account.capacity, account.usage, account.diffs)


def routes(core: Core) -> list[Route]:
    async def add(request: pb.AddPodOptions, call: Call) -> pb.Pod:
        return pod_message(await pods.add_pod(core, request.name, checked_text("desc", request.desc)))

    async def get(request: pb.GetPodOptions, call: Call) -> pb.Pod:
        return pod_message(await pods.get_pod(core, request.name))

    async def all_of_them(request: pb.Empty, call: Call) -> pb.Pods:
        return pb.Pods(pods=[pod_message(pod) for pod in await pods.list_pods(core)])

    async def remove(request: pb.RemovePodOptions, call: Call) -> pb.Empty:
        await pods.remove_pod(core, request.name)
        return pb.Empty()

    def resource(request: pb.GetPodOptions, call: Call) -> AsyncGenerator[pb.NodeResource, None]:
        return mapped(accounting.pod_accounts(core, request.name), account_message)

    return [
        unary(rpc.AddPod, add),
        unary(rpc.GetPod, get),
        unary(rpc.ListPods, all_of_them),
        unary(rpc.RemovePod, remove),
        stream(rpc.GetPodResource, resource),
    ]
