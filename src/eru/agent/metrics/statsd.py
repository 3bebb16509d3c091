"""Gauges to a statsd server over UDP; a dead server or a silent name server costs and stops nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from eru.agent.notices import Notices
from eru.lib.tasks import TaskOwner
from eru.lib.world import World

PACKET_MAX = 1440  # bytes, as published
LOOKUP_S = 10.0  # one question for a name
FRESH_S = 60.0  # an address is used so long before its name is looked up again
RETRY_S = 10.0  # after a name that was not found

AddressInfo = tuple[Any, Any, int, str, Any]
Lookup = Callable[[str, int], Awaitable[list[AddressInfo]]]


class Statsd:
    """`target`: host:port. Names are looked up in the background by `owner`; gauges that come before are dropped."""

    def __init__(
        self, target: str, world: World, owner: TaskOwner, notices: Notices, lookup: Lookup | None = None
    ) -> None:
        self.target = target
        host, _, port = target.rpartition(":")
        self._host, self._port = host.strip("[]") or "127.0.0.1", int(port)
        self._world = world
        self._owner = owner
        self._notices = notices
        self._lookup = lookup or _system_lookup
        self._socket: socket.socket | None = None
        self._address: Any = None
        self._looking = False
        self._look_at = 0.0  # monotonic seconds of the next lookup; 0: at once
        self._lines: list[bytes] = []
        self._size = 0
        self.sent_total = 0
        self.failed_total = 0
        with contextlib.suppress(OSError):  # a name, not an address
            numeric = socket.AI_NUMERICHOST
            self._use(socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM, flags=numeric)[0])
            self._look_at = float("inf")

    def gauge(self, key: str, value: float) -> None:
        """Add a gauge to the packet being filled; a negative one is preceded by zero, else it would be a change."""
        text = _plain(value)
        if value < 0:
            self._add(f"{key}:0|g".encode())
        self._add(f"{key}:{text}|g".encode())

    def flush(self) -> None:
        """Send what is gathered. Never waits."""
        if not self._lines:
            return
        packet = b"\n".join(self._lines)
        self._lines, self._size = [], 0
        if self._world.clock.monotonic() >= self._look_at and not self._looking:
            self._looking = True
            self._owner.start(f"statsd {self.target}", self._look_up())
        if self._socket is None:
            self.failed_total += 1
            return
        try:
            self._socket.send(packet)
            self.sent_total += 1
        except OSError:  # also what became of an earlier packet
            self.failed_total += 1

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    async def _look_up(self) -> None:
        clock = self._world.clock
        try:
            async with asyncio.timeout(LOOKUP_S):
                found = await self._lookup(self._host, self._port)
            self._use(found[0])
        except (OSError, TimeoutError, IndexError, UnicodeError) as error:
            self._look_at = clock.monotonic() + RETRY_S
            self._notices.trouble(
                f"statsd {self.target}",
                "statsd server cannot be found, trying on",
                server=self.target,
                error=str(error) or f"no answer within {LOOKUP_S:g}s",
            )
        else:
            self._look_at = clock.monotonic() + FRESH_S
            self._notices.over(f"statsd {self.target}", "statsd server is found", server=self.target)
        finally:
            self._looking = False

    def _use(self, found: AddressInfo) -> None:
        """Connect to an address, unless that is done already."""
        family, kind, protocol, _, address = found
        if self._socket is not None and address == self._address:
            return
        made = socket.socket(family, kind, protocol)
        try:
            made.setblocking(False)
            made.connect(address)
        except OSError:
            made.close()
            raise
        self.close()
        self._socket, self._address = made, address

    def _add(self, line: bytes) -> None:
        if self._size + len(line) + 1 > PACKET_MAX:
            self.flush()
        self._lines.append(line)
        self._size += len(line) + 1


def _plain(value: float) -> str:
    """The shortest text without an exponent, which not every server understands."""
    if value == int(value):
        return str(int(value))
    text = repr(float(value))
    return f"{Decimal(text):f}" if "e" in text else text


async def _system_lookup(host: str, port: int) -> list[AddressInfo]:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
