"""TCP ports for what tests start, or expect nobody at."""

from __future__ import annotations

import random
import socket

# Below what the kernel gives to outgoing connections (net.ipv4.ip_local_port_range, from 32768 on): none of them can
# take a port between the look and its use, or while a receiver is away that comes back on the same port.
FIRST, LAST = 12_000, 32_000

_chance = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A port of loopback on which nobody listens, and which was not given out before."""
    for _ in range(1_000):
        port = _chance.randrange(FIRST, LAST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError(f"no port between {FIRST} and {LAST} is free")
