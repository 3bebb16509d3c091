"""Networks, and calls that go to the engine as they are."""

from __future__ import annotations

from eru.core.app import Core
from eru.core.ops import networks
from eru.core.ops.raw import raw_engine
from eru.engine.contract import NetworkInfo
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.convert.deploy import checked_text, workload_id
from eru.wire.routes import Call, Route, unary


def network_message(network: NetworkInfo) -> pb.Network:
    return pb.Network(name=network.name, subnets=network.subnets)


def routes(core: Core) -> list[Route]:
    async def listing(request: pb.ListNetworkOptions, call: Call) -> pb.Networks:
        found = await networks.list_networks(core, request.podname, checked_text("driver", request.driver))
        return pb.Networks(networks=[network_message(network) for network in found])

    async def connect(request: pb.ConnectNetworkOptions, call: Call) -> pb.Network:
        id = workload_id(request.target)
        name = checked_text("network", request.network)
        return network_message(await networks.connect_network(core, name, id, request.ipv4, request.ipv6))

    async def disconnect(request: pb.DisconnectNetworkOptions, call: Call) -> pb.Empty:
        id = workload_id(request.target)
        await networks.disconnect_network(core, checked_text("network", request.network), id, force=request.force)
        return pb.Empty()

    async def raw(request: pb.RawEngineOptions, call: Call) -> pb.RawEngineMessage:
        id = workload_id(request.id)
        op = checked_text("op", request.op)
        data = await raw_engine(core, id, op, request.params, ignore_lock=request.ignore_lock)
        return pb.RawEngineMessage(id=id, data=data)

    return [
        unary(rpc.ListNetworks, listing),
        unary(rpc.ConnectNetwork, connect),
        unary(rpc.DisconnectNetwork, disconnect),
        unary(rpc.RawEngine, raw),
    ]
