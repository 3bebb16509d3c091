"""HTTP to one Docker engine; every failure comes out as an EngineError with the next step."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import aiohttp
import msgspec

from eru.engine.docker.address import Address
from eru.engine.docker.refused import explain
from eru.model.errors import (
    EngineError,
    EngineMissing,
    EngineOutcomeUnknown,
    EngineRefused,
    EngineUnreachable,
    EruError,
)

API_NEWEST = (1, 47)  # what this adapter was written for; older engines get their own version
KEEPALIVE_IDLE_S = 30
KEEPALIVE_EVERY_S = 10
KEEPALIVE_TRIES = 3
BODY_BYTES_MAX = 64 << 20  # of one unary answer

Query = Mapping[str, str | int | list[str]]


class DockerHttp:
    """Calls on one engine. `broken` hears of refused and failed connections."""

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext | None,
        connect_timeout_s: float,
        calls_parallel_max: int,
        broken: Callable[[EngineError], None],
    ) -> None:
        self.address, self.context = address, context
        self.connect_timeout_s = connect_timeout_s
        self.version = ""
        self._told = ""  # the engine's newest version, when `version` was agreed on
        self._broken = broken
        self._gate = asyncio.Semaphore(calls_parallel_max)
        connector: aiohttp.BaseConnector
        if address.path:
            connector = aiohttp.UnixConnector(address.path, limit=0)
            self._base = "http://docker"
        else:
            ssl_option: ssl.SSLContext | bool = context if context is not None else True
            connector = aiohttp.TCPConnector(limit=0, ssl=ssl_option, socket_factory=_watched_socket)
            host = f"[{address.host}]" if ":" in address.host else address.host
            self._base = f"{'https' if context is not None else 'http'}://{host}:{address.port}"
        # Docker would gladly spend its time on gzip for what stays on one machine or network.
        self._session = aiohttp.ClientSession(connector=connector, headers={"Accept-Encoding": "identity"})

    async def negotiate(self) -> None:
        """Agree on an API version; also the first sign of life."""
        _, headers, _ = await self._once("GET", f"{self._base}/_ping", timeout_s=self.connect_timeout_s)
        told = headers.get("Api-Version", "")
        if told and told == self._told:
            return
        theirs = _api_version(told)
        if theirs is None:
            raise EngineUnreachable(f"what answers at {self.address.place} is not Docker: correct the endpoint")
        least = await self._least() if theirs > API_NEWEST else theirs
        version = min(theirs, max(API_NEWEST, least))
        self.version, self._told = f"{version[0]}.{version[1]}", told

    async def _least(self) -> tuple[int, int]:
        """The oldest version that the engine still takes; those newer than us drop old ones in time."""
        url = f"{self._base}/version"
        _, _, text = await self._once("GET", url, timeout_s=self.connect_timeout_s)
        found = decode(text)
        told = found.get("MinAPIVersion") if isinstance(found, dict) else None
        return _api_version(str(told)) or API_NEWEST

    async def close(self) -> None:
        await self._session.close()

    def path(self, path: str) -> str:
        """With the API version in front."""
        return f"/v{self.version}{path}"

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        data: AsyncIterator[bytes] | None = None,
        effect: bool = False,
        timeout_s: float | None = 30.0,
    ) -> Any:
        """The decoded answer (None when empty).

        `effect`: it changes something, so a lost answer is EngineOutcomeUnknown.
        Changes are bounded in number; reads and uploads do not wait for them.
        """
        async with self._gate if effect and data is None else nullcontext():
            _, _, text = await self._once(
                method,
                self._base + self.path(path),
                query=query,
                body=body,
                headers=headers,
                data=data,
                effect=effect,
                timeout_s=timeout_s,
            )
        return decode(text)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        data: AsyncIterator[bytes] | None = None,
        idle_s: float | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The answer's body as it comes; `idle_s`: longest silence."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.connect_timeout_s, sock_read=idle_s)
        try:
            async with self._session.request(
                method,
                self._base + self.path(path),
                params=_params(query),
                headers=headers,
                data=data,
                timeout=timeout,
            ) as response:
                if response.status >= 300:
                    raise self.refusal(response.status, await _body(response))
                yield response.content.iter_any()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._failed(error, effect=False) from error

    async def _once(
        self,
        method: str,
        url: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        data: AsyncIterator[bytes] | None = None,
        effect: bool = False,
        timeout_s: float | None = 30.0,
    ) -> tuple[int, Mapping[str, str], bytes]:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=self.connect_timeout_s)
        payload: Any = data
        if body is not None:
            payload = msgspec.json.encode(body)
            headers = {**(headers or {}), "Content-Type": "application/json"}
        try:
            async with self._session.request(
                method, url, params=_params(query), headers=headers, data=payload, timeout=timeout
            ) as response:
                text = await _body(response)
                if response.status >= 400:
                    raise self.refusal(response.status, text)
                return response.status, response.headers, text
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._failed(error, effect) from error

    # What failures mean.

    def refusal(self, status: int, text: bytes) -> EngineError:
        """Docker's own words as an EngineError."""
        try:
            message = str(json.loads(text)["message"])
        except (ValueError, KeyError, TypeError):
            message = text[:500].decode(errors="replace").strip() or f"HTTP status {status}"
        if "HTTP request to an HTTPS server" in message:
            return self._report(
                EngineUnreachable(f"Docker at {self.address.place} wants TLS: give the node's ca, cert and key")
            )
        if status == 404 or "no such" in message.lower():
            return EngineMissing(message)
        return EngineRefused(explain(message))

    def _failed(self, error: BaseException, effect: bool) -> EruError:
        """`effect`: whether it may have been done when it had been sent."""
        ours = _ours(error)
        if ours is not None:
            return ours  # what we sent ended early, for a reason of its own
        never_sent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        if never_sent:
            return self._report(EngineUnreachable(self.cannot_connect(error)))
        alert = _ssl_alert(error)
        if alert:
            return self._report(EngineUnreachable(self.tls_trouble(alert)))
        what = "did not answer in time" if isinstance(error, TimeoutError) else f"broke the connection ({error})"
        if effect:
            return EngineOutcomeUnknown(
                f"Docker at {self.address.place} {what}, so it is not known whether it was done"
            )
        return EngineUnreachable(f"Docker at {self.address.place} {what}")

    def _report(self, error: EngineUnreachable) -> EngineUnreachable:
        self._broken(error)
        return error

    def cannot_connect(self, error: BaseException) -> str:
        """One sentence for a connection that did not come about."""
        place = self.address.place
        cause = getattr(error, "os_error", None) or error
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return self.tls_trouble(str(error.certificate_error))
        if isinstance(cause, ssl.SSLError):
            return self.tls_trouble(str(cause))
        if isinstance(cause, FileNotFoundError):
            return f"there is no Docker socket at {place}: start Docker, or correct the node's endpoint"
        if isinstance(cause, PermissionError):
            return (
                f"no permission on the Docker socket {place}: run this process as root or in the socket's group "
                "(usually docker)"
            )
        if isinstance(cause, ConnectionRefusedError) or getattr(cause, "errno", 0) == errno.ECONNREFUSED:
            return f"nothing listens at {place} (connection refused): start Docker there, or correct the endpoint"
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return f"host {self.address.host!r} has no known address: correct the node's endpoint"
        if isinstance(cause, TimeoutError):
            return (
                f"no answer from {place} within {self.connect_timeout_s:g} s: check the address, the firewall and "
                "that Docker runs there"
            )
        return f"Docker at {place} cannot be reached: {cause}"

    def tls_trouble(self, text: str) -> str:
        """One sentence for a TLS handshake that failed."""
        place, lower = self.address.place, text.lower()
        if "hostname mismatch" in lower or "ip address mismatch" in lower or "not valid for" in lower:
            return (
                f"Docker's certificate at {place} is not for {self.address.host!r}: issue one with that name or "
                "address as subjectAltName, or set docker.tls_check_hostname to false to accept it"
            )
        if "certificate has expired" in lower:
            return f"Docker's certificate at {place} has expired: renew it"
        if "certificate verify failed" in lower:
            return f"Docker's certificate at {place} is not signed by the node's ca: give the CA that signed it"
        if "wrong version number" in lower or "record layer" in lower or "http request" in lower:
            return f"{place} does not speak TLS: use its TLS port, or remove the node's certificates"
        if "alert" in lower or "certificate required" in lower:
            return f"Docker at {place} refuses our certificate ({text}): give a cert and key that its CA signed"
        return f"TLS with Docker at {place} failed: {text}"


def watch_peer(connection: socket.socket) -> None:
    """Let the kernel find out when the other machine is gone: streams may be silent for hours."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_EVERY_S),
        ("TCP_KEEPCNT", KEEPALIVE_TRIES),
    ):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _watched_socket(found: aiohttp.AddrInfoType) -> socket.socket:
    family, type, proto, _, _ = found
    connection = socket.socket(family, type, proto)
    watch_peer(connection)
    return connection


def _api_version(text: str) -> tuple[int, int] | None:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def decode(text: bytes) -> Any:
    """JSON, or None for nothing."""
    return msgspec.json.decode(text) if text.strip() else None


async def json_objects(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """Objects out of a stream of JSON texts, one per line or back to back."""
    decoder = json.JSONDecoder()
    pending = ""
    partial = b""
    async for chunk in chunks:
        data = partial + chunk
        cut = len(data) if data.endswith((b"\n", b"}")) else data.rfind(b"\n") + 1
        partial, text = data[cut:], data[:cut]
        try:
            pending += text.decode()
        except UnicodeDecodeError:
            partial = data
            continue
        while pending := pending.lstrip():
            try:
                found, end = decoder.raw_decode(pending)
            except ValueError:
                if len(pending) > BODY_BYTES_MAX:
                    raise EngineRefused("Docker's progress stream cannot be read") from None
                break
            pending = pending[end:]
            if isinstance(found, dict):
                yield found


async def _body(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise EngineRefused(f"Docker's answer has more than {BODY_BYTES_MAX} bytes")
    return b"".join(parts)


def _params(query: Query | None) -> list[tuple[str, str]] | None:
    if query is None:
        return None
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        if isinstance(value, list):
            pairs.extend((name, entry) for entry in value)
        else:
            pairs.append((name, str(value)))
    return pairs


def _ours(error: BaseException | None) -> EruError | None:
    while error is not None and not isinstance(error, EruError):
        error = error.__cause__ or error.__context__
    return error


def _ssl_alert(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return str(error)
        error = error.__cause__ or error.__context__
    return ""
