"""One member of the cluster: its connection, made when it is needed and made anew when it has ended."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

from google.protobuf.message import DecodeError

from eru.lib.http2.calls import ClientCall
from eru.lib.http2.client import Connection, Metadata
from eru.lib.http2.failures import Code, RpcFailed
from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.store.etcd.methods import A, Method, Q
from eru.store.etcd.settings import EtcdSettings

RECONNECT_S = 0.1  # after a failed try to connect; until then calls fail with the same reason
OPEN_S = 10.0  # for one try to connect, however long its callers wait


class Member:
    """Calls to one endpoint. Each raises RpcFailed."""

    def __init__(self, name: str, settings: EtcdSettings, tls: ssl.SSLContext | None, world: World) -> None:
        self.name = name
        host, _, port = name.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._settings = settings
        self._tls = tls
        self._clock = world.clock
        self._tasks = TaskOwner(f"etcd {name}", shared=True)
        self._connection: Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._refused: RpcFailed | None = None
        self._refused_at = 0.0  # monotonic seconds
        self._closed = False

    async def unary(self, method: Method[Q, A], request: Q, timeout_s: float, metadata: Metadata) -> A:
        """The answer to one request, on a connection that is there."""
        answer = await self._there().unary(
            method.path, request.SerializeToString(), timeout_s=timeout_s, metadata=metadata
        )
        try:
            return method.answer.FromString(answer)
        except DecodeError as error:
            raise RpcFailed(Code.INTERNAL, f"an answer that cannot be read: {error}") from error

    async def stream(self, method: Method[Q, A], metadata: Metadata) -> ClientCall:
        """A stream of messages, on a connection that is there."""
        return await self._there().stream(method.path, metadata=metadata)

    @property
    def connected(self) -> bool:
        """Whether calls can be sent right now."""
        return self._connection is not None and self._connection.ready

    async def connect(self, timeout_s: float) -> None:
        """Be connected. Raises RpcFailed, certainly without having sent anything."""
        if self.connected:
            return
        if self._closed:
            raise RpcFailed(Code.UNAVAILABLE, "the store is closed", sent=False)
        if self._opening is None:
            if self._refused is not None and self._clock.monotonic() - self._refused_at < RECONNECT_S:
                raise self._refused
            self._opening = self._tasks.start("open", self._open())
        await asyncio.wait({self._opening}, timeout=timeout_s)
        if not self.connected:
            raise self._refused or RpcFailed(Code.UNAVAILABLE, "no connection", sent=False)

    async def close(self) -> None:
        """Calls under way fail."""
        self._closed = True
        await self._tasks.close()
        if self._connection is not None:
            self._connection.close("the store was closed")

    def _there(self) -> Connection:
        if self._connection is None:
            raise RpcFailed(Code.UNAVAILABLE, "no connection", sent=False)
        return self._connection

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(OPEN_S):
                self._connection = await Connection.open(
                    self._host,
                    self._port,
                    tls=self._tls,
                    server_name=self._settings.server_name,
                    message_bytes_max=self._settings.message_bytes_max,
                )
            self._refused = None
        except (OSError, RpcFailed) as error:
            self._refused = RpcFailed(Code.UNAVAILABLE, _why(error, self._host), sent=False)
            self._refused_at = self._clock.monotonic()
        finally:
            self._opening = None


def _why(error: OSError | RpcFailed, host: str) -> str:
    """Why there is no connection, in a few words."""
    if isinstance(error, RpcFailed):
        return error.details
    if isinstance(error, TimeoutError):
        return f"no connection in {OPEN_S:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"CERTIFICATE_VERIFY_FAILED: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake failed: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"lookup failed for {host}: {error.strerror}"
    return os.strerror(error.errno) if error.errno else str(error)
