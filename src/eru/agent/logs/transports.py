"""How records reach a receiver: one socket or file each, never blocking.

`encode` turns newline-terminated JSON records into what travels, one unit per
record and newline-terminated where the transport is a stream, so that units
and records can be counted against each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import struct
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import orjson

SEND_BUFFER = 1 << 20  # bytes asked for in the kernel: what a dying receiver may cost at most
USER_TIMEOUT_MS = 20_000  # after so long without an acknowledgement a connection is dead
DATAGRAM_MAX = 65_000
JOURNAL_SOCKET = "/run/systemd/journal/socket"
_BYTES_ACKED_AT = 120  # offset of tcpi_bytes_acked in struct tcp_info
_UNSAFE = re.compile(r'[\\"\]]')
_NAME_UNSAFE = re.compile(r"[^!-~]")


class Transport(Protocol):
    """One way out. `datagrams`: units are sent whole, one per call. `pollable`: not a file."""

    datagrams: bool
    pollable: bool

    async def open(self, timeout_s: float) -> None:
        """Raises OSError or TimeoutError."""

    def fileno(self) -> int: ...

    def send(self, data: memoryview) -> int:
        """Bytes taken. Raises BlockingIOError when nothing fits now, OSError when it is broken."""

    def acknowledged(self) -> int | None:
        """Bytes the receiver's kernel confirmed since `open`, None if there is no such thing."""

    def encode(self, records: bytes) -> list[bytes]: ...

    def closed_by_peer(self) -> bool:
        """After readable: whether the receiver has gone."""

    def close(self) -> None: ...


class TcpTransport:
    """JSON lines, or syslog lines, over one TCP connection."""

    datagrams = False
    pollable = True

    def __init__(self, host: str, port: int, syslog_host: str = "") -> None:
        self._target = host, port
        self._syslog_host = syslog_host
        self._socket: socket.socket | None = None
        self._acked_before = 0

    async def open(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            found = await loop.getaddrinfo(*self._target, type=socket.SOCK_STREAM)
            failed: OSError = OSError(f"no address for {self._target[0]}")
            for family, kind, number, _, address in found:
                made = socket.socket(family, kind, number)
                try:
                    made.setblocking(False)
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    with contextlib.suppress(OSError, AttributeError):
                        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
                    await loop.sock_connect(made, address)
                except OSError as error:
                    made.close()
                    failed = error
                except BaseException:
                    made.close()
                    raise
                else:
                    self._socket = made
                    self._acked_before = self._acked() or 0
                    return
        raise failed

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def send(self, data: memoryview) -> int:
        assert self._socket is not None
        return self._socket.send(data)

    def acknowledged(self) -> int | None:
        acked = self._acked()
        return None if acked is None else acked - self._acked_before

    def encode(self, records: bytes) -> list[bytes]:
        if not self._syslog_host:
            return [records]
        lines = [syslog_line(record, self._syslog_host) for record in records.splitlines()]
        return [b"\n".join([*lines, b""])]

    def closed_by_peer(self) -> bool:
        assert self._socket is not None
        try:
            return not self._socket.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _acked(self) -> int | None:
        if self._socket is None:
            return None
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED_AT + 8)
            return int(struct.unpack_from("=Q", info, _BYTES_ACKED_AT)[0])
        except (OSError, AttributeError, struct.error):
            return None


class DatagramTransport:
    """One datagram per record: UDP JSON, UDP syslog, or the native journal."""

    datagrams = True
    pollable = True

    def __init__(self, target: tuple[str, int] | str, kind: str, hostname: str = "") -> None:
        self._target = target
        self._kind = kind
        self._hostname = hostname
        self._socket: socket.socket | None = None
        self.refused_total = 0

    async def open(self, timeout_s: float) -> None:
        if isinstance(self._target, str):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            address: Any = self._target
        else:
            async with asyncio.timeout(timeout_s):
                found = await asyncio.get_running_loop().getaddrinfo(*self._target, type=socket.SOCK_DGRAM)
            family, kind, number, _, address = found[0]
            made = socket.socket(family, kind, number)
        made.setblocking(False)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            made.connect(address)
        except OSError:
            made.close()
            raise
        self._socket = made

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def send(self, data: memoryview) -> int:
        assert self._socket is not None
        try:
            return self._socket.send(data)
        except ConnectionRefusedError:
            if isinstance(self._target, str):
                raise
            self.refused_total += 1  # tells of an earlier datagram; this one was not sent
            with contextlib.suppress(ConnectionRefusedError):
                return self._socket.send(data)
            return len(data)

    def acknowledged(self) -> int | None:
        return None

    def encode(self, records: bytes) -> list[bytes]:
        units = []
        for record in records.splitlines(keepends=True):
            if self._kind == "json" and len(record) <= DATAGRAM_MAX:
                units.append(record)
                continue
            for part in _fitting(record):
                units.append(self._unit(part))
        return units

    def closed_by_peer(self) -> bool:
        assert self._socket is not None
        with contextlib.suppress(OSError):
            self._socket.recv(4096)
        return False

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _unit(self, record: bytes) -> bytes:
        if self._kind == "syslog":
            return syslog_line(record, self._hostname)
        if self._kind == "journal":
            return journal_datagram(record)
        return record


class FileTransport:
    """JSON lines appended to a file; a file that was moved away or removed is made anew."""

    datagrams = False
    pollable = False

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._fd = -1
        self._inode = 0

    async def open(self, timeout_s: float) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        self._inode = os.fstat(self._fd).st_ino

    def fileno(self) -> int:
        return self._fd

    def send(self, data: memoryview) -> int:
        try:
            moved = os.stat(self._path).st_ino != self._inode
        except FileNotFoundError:
            moved = True
        if moved:
            raise OSError(f"{self._path} was rotated")
        return os.write(self._fd, data)

    def acknowledged(self) -> int | None:
        return None

    def encode(self, records: bytes) -> list[bytes]:
        return [records]

    def closed_by_peer(self) -> bool:
        return False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def syslog_line(record: bytes, hostname: str) -> bytes:
    """RFC 5424: facility local0, error for stderr; app name, ident as process id, entrypoint as message id."""
    if record.startswith(b"<"):
        return record.rstrip(b"\n")
    fields = orjson.loads(record)
    priority = 131 if fields["type"] == "stderr" else 134
    when = datetime.fromisoformat(_padded(fields["datetime"])).astimezone().isoformat()
    extra = fields.get("extra") or {}
    shown = {"id": fields["id"], "type": fields["type"], "pod": extra.get("podname"), "node": extra.get("nodename")}
    data = " ".join(f'{key}="{_UNSAFE.sub(_escape, value)}"' for key, value in shown.items() if value)
    head = (
        f"<{priority}>1 {when} {_name(hostname, 255)} {_name(fields['name'], 48)} {_name(fields['ident'], 128)} "
        f"{_name(fields['entrypoint'], 32)} [eru@32473 {data}] "
    )
    text: str = fields["data"]
    return (head + text.replace("\n", "\\n")).encode()


def journal_datagram(record: bytes) -> bytes:
    """A record in journald's native form, with the published field names."""
    fields = orjson.loads(record)
    values = {
        "MESSAGE": "message " + fields["data"],
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": fields["name"],
        "ID": fields["id"],
        "TYPE": fields["type"],
        "ENTRY_POINT": fields["entrypoint"],
        "IDENT": fields["ident"],
        "DATE_TIME": fields["datetime"],
        "EXTRA": orjson.dumps(fields.get("extra")).decode(),
    }
    parts = []
    for key, value in values.items():
        raw = value.encode()
        if b"\n" in raw:
            parts.append(key.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n")
        else:
            parts.append(key.encode() + b"=" + raw + b"\n")
    return b"".join(parts)


def _fitting(record: bytes) -> list[bytes]:
    """The record, or several marked `partial`, each small enough for a datagram."""
    if len(record) <= DATAGRAM_MAX:
        return [record]
    fields = orjson.loads(record)
    text: str = fields["data"]
    pieces, size = [], DATAGRAM_MAX // 8  # a character may become six bytes in JSON
    last_mark = fields.pop("partial", None)
    for at in range(0, len(text), size):
        part = fields | {"data": text[at : at + size]}
        if at + size < len(text) or last_mark:
            part["partial"] = True
        pieces.append(orjson.dumps(part) + b"\n")
    return pieces


def _padded(text: str) -> str:
    stem, dot, fraction = text.partition(".")
    return f"{stem}.{(fraction + '000000')[:6]}" if dot else stem


def _escape(found: re.Match[str]) -> str:
    return "\\" + found[0]


def _name(text: str, most: int) -> str:
    return _NAME_UNSAFE.sub("?", text)[:most] or "-"
