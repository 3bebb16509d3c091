"""The published gauges of nodes as statsd datagrams, for sites that collect those."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterable, Iterator

import structlog

from eru.core.app import Core
from eru.model.errors import InvalidInput

_log = structlog.get_logger(__name__)

EVERY_S = 10.0
DATAGRAM_BYTES_MAX = 1400  # fits an Ethernet frame


def lines(core: Core, deployed: int) -> Iterator[str]:
    """One line per gauge, and the number of instances made since the last time as a counter."""
    for found in core.fleet.view.nodes():
        if found.node is None:
            continue
        yield f"pod.node.{found.name.replace('.', '_')}.up:{int(found.up)}|g"
        for name, kind in core.kinds.items():
            gauges = kind.gauges(
                found.node.podname, found.name, found.capacity.get(name, {}), found.usage.get(name, {})
            )
            for gauge in gauges:
                yield f"{gauge.key}:{gauge.value:g}|g"
    if deployed:
        yield f"core.{platform.node().replace('.', '-')}.deploy.count:{deployed}|c"


def packed(texts: Iterable[str]) -> Iterator[bytes]:
    """Lines gathered into datagrams."""
    datagram = b""
    for text in texts:
        line = text.encode()
        if datagram and len(datagram) + 1 + len(line) > DATAGRAM_BYTES_MAX:
            yield datagram
            datagram = b""
        datagram = datagram + b"\n" + line if datagram else line
    if datagram:
        yield datagram


async def push_gauges(core: Core, address: str, every_s: float = EVERY_S) -> None:
    """Send for ever; nobody listening is no reason to stop. Raises InvalidInput for a wrong address."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidInput(f"statsd address {address!r} is not of the form host:port")
    loop = asyncio.get_running_loop()
    told = core.deployed
    while True:
        await core.world.clock.sleep(core.world.jitter(every_s))
        try:
            transport, _protocol = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=(host, int(port))
            )
        except OSError as error:
            _log.warning("statsd cannot be reached", address=address, error=str(error))
            continue
        made, told = core.deployed - told, core.deployed
        for datagram in packed(lines(core, made)):
            transport.sendto(datagram)
        transport.close()
