"""Networks of a pod's nodes, and workloads in them."""

from __future__ import annotations

import ipaddress

from eru.core.app import Core
from eru.core.calls import bounded
from eru.core.ops.reach import check, reach
from eru.engine.contract import Capability, NetworkInfo
from eru.model.errors import EngineUnreachable, InvalidInput, NotFound, Refused
from eru.model.names import check_name

NODES_ASKED_MAX = 3  # until one answers


async def list_networks(core: Core, podname: str, driver: str) -> list[NetworkInfo]:
    """What one node of the pod (of any pod when empty) that is up has. Raises NotFound, Refused, EngineError."""
    if podname:
        check_name("pod name", podname)
        await core.fleet.fresh()
        if podname not in core.fleet.view.pods:
            raise NotFound(f"pod {podname!r} does not exist")
    up = [found for found in core.fleet.view.nodes(podname) if found.up]
    if not up:
        raise Refused(f"pod {podname!r} has no node that is up, so there is none to ask for networks")
    for found in up[: NODES_ASKED_MAX - 1]:
        try:
            return await _ask(core, found.name, driver)
        except EngineUnreachable:
            continue
    return await _ask(core, up[min(len(up), NODES_ASKED_MAX) - 1].name, driver)


async def _ask(core: Core, nodename: str, driver: str) -> list[NetworkInfo]:
    engine = await core.engine_for(nodename)
    check(engine, Capability.NETWORKS, nodename)
    return await bounded(engine.networks(driver), core.settings.engine_call_s, f"networks of node {nodename}")


async def connect_network(core: Core, network: str, id: str, ipv4: str, ipv6: str) -> NetworkInfo:
    """The network, with the addresses the workload got in it. Raises InvalidInput, NotFound, EngineError."""
    if not network:
        raise InvalidInput("network name is empty")
    for address, version in ((ipv4, 4), (ipv6, 6)):
        _check_address(address, version)
    found = await reach(core, id, Capability.NETWORKS)
    call = found.engine.connect_network(network, found.workload.id, ipv4, ipv6)
    addresses = await bounded(call, core.settings.engine_call_s, f"connecting {id} to network {network}")
    return NetworkInfo(name=network, subnets=addresses)


async def disconnect_network(core: Core, network: str, id: str, *, force: bool) -> None:
    """Raises InvalidInput, NotFound, EngineError."""
    if not network:
        raise InvalidInput("network name is empty")
    found = await reach(core, id, Capability.NETWORKS)
    call = found.engine.disconnect_network(network, found.workload.id, force=force)
    await bounded(call, core.settings.engine_call_s, f"disconnecting {id} from network {network}")


def _check_address(address: str, version: int) -> None:
    if not address:
        return
    try:
        if ipaddress.ip_address(address).version == version:
            return
    except ValueError:
        pass
    raise InvalidInput(f"{address[:64]!r} is not an IPv{version} address")
