"""The published gauges of nodes as statsd datagrams, for sites that collect those.

All nodes are told every `every_s`; a node that was added or changed is told
within a second. Nothing waits for the receiver: what the system does not take
at once is dropped and counted.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import structlog
from prometheus_client import Counter

from eru.core.app import Core
from eru.core.view import NodeView
from eru.model.errors import InvalidInput

_log = structlog.get_logger(__name__)

EVERY_S = 10.0
LOOK_S = 1.0  # how soon a changed node is told
RESOLVE_S = 5.0  # the name of the receiver must be found within this time
DATAGRAM_BYTES_MAX = 1400  # fits an Ethernet frame
BUFFER_BYTES_MAX = 1 << 20  # waiting for the system; more is dropped
BURST_DATAGRAMS = 50  # sent before others get their turn


def lines(core: Core, nodes: Iterable[NodeView], deployed: int) -> Iterator[str]:
    """The number of instances made since the last time as a counter, then one line per gauge."""
    if deployed:
        yield f"core.{platform.node().replace('.', '-')}.deploy.count:{deployed}|c"
    for found in nodes:
        if found.node is None:
            continue
        yield f"pod.node.{found.name.replace('.', '_')}.up:{int(found.up)}|g"
        for name, kind in core.kinds.items():
            gauges = kind.gauges(
                found.node.podname, found.name, found.capacity.get(name, {}), found.usage.get(name, {})
            )
            for gauge in gauges:
                yield f"{gauge.key}:{_number(gauge.value)}|g"


def _number(value: float) -> str:
    """Whole numbers in all their digits: bytes do not fit into six."""
    return str(int(value)) if value == int(value) else repr(float(value))


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


class Pusher:
    """Sends for ever; nobody listening is no reason to stop. Raises InvalidInput for a wrong address."""

    def __init__(
        self, core: Core, address: str, every_s: float = EVERY_S, look_s: float = LOOK_S, log: Any = _log
    ) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise InvalidInput(f"statsd address {address!r} is not of the form host:port")
        self._core = core
        self._address = address
        self._target = host.strip("[]"), int(port)
        self._every_s = every_s
        self._look_s = look_s
        self._log = log
        self._failing = False
        self.failures = Counter("eru_statsd_failures", "Pushes to statsd that did not go out whole.", registry=None)

    async def run(self) -> None:
        """Runs until cancelled."""
        core, clock = self._core, self._core.world.clock
        due = clock.monotonic() + core.world.jitter(self._every_s)
        seen, told = core.fleet.revision, core.deployed
        while True:
            await clock.sleep(min(self._look_s, self._every_s))
            view, revision = core.fleet.view, core.fleet.revision
            everybody = clock.monotonic() >= due
            if everybody:
                due = clock.monotonic() + self._every_s
                nodes = list(view.nodes())
            elif self._failing:
                continue  # not before its next turn
            else:
                nodes = [found for found in view.nodes() if view.changed_at[found.row] > seen]
            made = core.deployed - told
            if (nodes or made) and await self._push(nodes, made):
                seen, told = revision, told + made

    async def _push(self, nodes: Sequence[NodeView], made: int) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_S):
                transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=self._target)
        except (OSError, TimeoutError) as error:
            self._failed(str(error) or f"{self._target[0]} was not resolved within {RESOLVE_S:g} s")
            return False
        try:
            for number, datagram in enumerate(packed(lines(self._core, nodes, made))):
                if transport.get_write_buffer_size() > BUFFER_BYTES_MAX:  # type: ignore[attr-defined]  # every loop has it
                    self._failed("the system does not take datagrams fast enough")
                    return True
                transport.sendto(datagram)
                if number % BURST_DATAGRAMS == BURST_DATAGRAMS - 1:
                    await self._core.world.clock.sleep(0)
        finally:
            transport.close()
        if self._failing:
            self._failing = False
            self._log.info("statsd is reached again", address=self._address)
        return True

    def _failed(self, why: str) -> None:
        self.failures.inc()
        if not self._failing:
            self._failing = True
            self._log.warning("statsd cannot be reached", address=self._address, error=why)
