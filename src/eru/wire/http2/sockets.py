"""Bound sockets for the address a server is told: `host:port` or `unix:/path`."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

UNIX = "unix:"
UNIX_MODE = 0o660  # the owner and its group may call
PATH_BYTES_MAX = 107  # of a unix socket's path, as the kernel has it


def bound(address: str, *, reuse_port: bool) -> list[socket.socket]:
    """Bound sockets for `host:port` or `unix:/path`; `[::]` and no host are all addresses, of either version.

    Raises OSError, and ValueError for an address of another form.
    """
    if address.startswith(UNIX):
        return [_bound_path(address.removeprefix(UNIX))]
    return _bound_port(address, reuse_port)


def port_of(sockets: list[socket.socket]) -> int:
    """The port that was taken; 0 for a path."""
    return 0 if sockets[0].family == socket.AF_UNIX else int(sockets[0].getsockname()[1])


def forget_path(address: str, identity: tuple[int, int] | None) -> None:
    """Remove the socket file, unless another process has made its own there."""
    if identity is not None and identify_path(address) == identity:
        Path(address.removeprefix(UNIX)).unlink(missing_ok=True)


def identify_path(address: str) -> tuple[int, int] | None:
    """(device, inode) of the socket file of `unix:/path`, None when there is none."""
    if not address.startswith(UNIX):
        return None
    try:
        found = os.stat(address.removeprefix(UNIX))
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _bound_path(path: str) -> socket.socket:
    if not path.startswith("/") or "\0" in path or len(path.encode()) > PATH_BYTES_MAX:
        raise ValueError(path)
    _remove_stale(path)
    each = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        each.bind(path)
        os.chmod(path, UNIX_MODE)
    except OSError:
        each.close()
        raise
    each.setblocking(False)
    return each


def _remove_stale(path: str) -> None:
    """A socket that nobody listens on was left by a process that was killed. Raises OSError when it is in use."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, "there is a file of that name that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _bound_port(address: str, reuse_port: bool) -> list[socket.socket]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(address)
    host = host.strip("[]")
    found = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    if host in ("", "::"):
        found = sorted(found, key=lambda entry: entry[0] != socket.AF_INET6)[:1]  # takes those of version 4, too
    taken: list[socket.socket] = []
    trouble: OSError | None = None
    for family, kind, protocol, _, target in dict.fromkeys(found):
        each = socket.socket(family, kind, protocol)
        try:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host not in ("", "::")))
            chosen = taken[0].getsockname()[1] if taken else target[1]
            each.bind((target[0], chosen, *target[2:]))
        except OSError as error:
            each.close()
            trouble = trouble or error
            continue
        each.setblocking(False)
        taken.append(each)
    if not taken:
        raise trouble or OSError(f"{address} has no address; {os.strerror(errno.EADDRNOTAVAIL)}")
    if trouble is not None and trouble.errno == errno.EADDRINUSE:
        for each in taken:
            each.close()
        raise trouble
    return taken
