"""Gauges to a statsd server over UDP; a dead server costs nothing and stops nothing."""

from __future__ import annotations

import contextlib
import socket

PACKET_MAX = 1440  # bytes, as published


class Statsd:
    """`target`: host:port, looked up when it is first needed and again after an error."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._address = (host.strip("[]") or "127.0.0.1", int(port))
        self._socket: socket.socket | None = None
        self._lines: list[bytes] = []
        self._size = 0
        self.sent_total = 0
        self.failed_total = 0

    def gauge(self, key: str, value: float) -> None:
        """Add a gauge to the packet being filled; a negative one is preceded by zero, else it would be a change."""
        text = str(int(value)) if value == int(value) else repr(float(value))
        if value < 0:
            self._add(f"{key}:0|g".encode())
        self._add(f"{key}:{text}|g".encode())

    def flush(self) -> None:
        """Send what is gathered."""
        if not self._lines:
            return
        packet = b"\n".join(self._lines)
        self._lines, self._size = [], 0
        try:
            if self._socket is None:
                self._socket = self._connect()
            self._socket.send(packet)
            self.sent_total += 1
        except OSError:
            self.failed_total += 1
            self.close()

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        family, kind, protocol, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        made.connect(address)
        return made

    def _add(self, line: bytes) -> None:
        if self._size + len(line) + 1 > PACKET_MAX:
            self.flush()
        self._lines.append(line)
        self._size += len(line) + 1
