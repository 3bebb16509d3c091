"""Probes of one workload: its ports, a page, a command inside."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from eru.agent.docker_http import read_head
from eru.agent.runtime import Runtime
from eru.agent.workloads import HealthPlan, Workload
from eru.model.errors import EngineError

REDIRECTS = (301, 302, 303, 307, 308)
REDIRECTS_MAX = 10


async def probe(runtime: Runtime, workload: Workload) -> bool:
    """Whether every declared probe of a running workload passes now."""
    plan = workload.health
    check = plan.check
    addresses = workload.addresses
    if check is not None and (check.tcp_ports or check.http_port) and not addresses:
        return False
    if check is not None and check.http_port:
        for address in addresses:
            if not await http_probe(address, check.http_port, check.http_url, check.http_code, plan.timeout_s):
                return False
    if check is not None:
        for port in check.tcp_ports:
            for address in addresses:
                if not await tcp_probe(address, port, plan.timeout_s):
                    return False
    return not plan.command or await exec_probe(runtime, workload.id, plan)


class PortsCheck:
    """Whether all ports of a workload accept, one after the other, without a task: most checks are like this.

    Calls `done(healthy)` once, perhaps before `start` returns.
    """

    def __init__(self, targets: list[tuple[str, str]], timeout_s: float, done: Callable[[bool], None]) -> None:
        self._targets = targets
        self._timeout_s = timeout_s
        self._done = done
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0

    def start(self) -> None:
        while self._at < len(self._targets):
            answer = self._connect(*self._targets[self._at])
            if answer is None:
                return
            if not answer:
                self._end(False)
                return
            self._at += 1
        self._end(True)

    def cancel(self) -> None:
        """Forget it: `done` will not be called any more."""
        self._close()
        self._done = lambda _: None

    def _connect(self, address: str, port: str) -> bool | None:
        """None: the kernel will say later."""
        self._close()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            socket.inet_pton(family, address)  # a name would have to be looked up
            made = self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            code = made.connect_ex((address, int(port.partition("/")[0])))
        except (OSError, ValueError, OverflowError):
            return False
        if code not in (errno.EINPROGRESS, errno.EAGAIN):
            return code == 0
        loop = asyncio.get_running_loop()
        loop.add_writer(made.fileno(), self._writable)
        self._timer = loop.call_later(self._timeout_s, self._end, False)
        return None

    def _writable(self) -> None:
        if self._socket is not None and self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            self._at += 1
            self.start()
        else:
            self._end(False)

    def _end(self, healthy: bool) -> None:
        self._close()
        done, self._done = self._done, lambda _: None
        done(healthy)

    def _close(self) -> None:
        made, self._socket = self._socket, None
        if made is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            asyncio.get_running_loop().remove_writer(made.fileno())
        made.close()


def ports_only(workload: Workload) -> list[tuple[str, str]] | None:
    """(address, port) of all that is to be asked, if that is all there is to ask."""
    check = workload.health.check
    if check is None or not check.tcp_ports or check.http_port or workload.health.command:
        return None
    return [(address, port) for port in check.tcp_ports for address in workload.addresses]


async def tcp_probe(address: str, port: str, timeout_s: float) -> bool:
    """Whether the port accepts. A port may be written `80/tcp`."""
    known: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    check = PortsCheck([(address, port)], timeout_s, known.set_result)
    check.start()
    try:
        return await known
    finally:
        check.cancel()


async def http_probe(address: str, port: str, url: str, code: int, timeout_s: float) -> bool:
    """Whether a GET answers as expected: `code`, or 200 to 499 for 0. Redirects are followed, to other hosts too."""
    host = f"[{address}]" if ":" in address else address
    target = f"http://{host}:{port.partition('/')[0]}{url if url.startswith('/') else '/' + url}"
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(REDIRECTS_MAX):
                status, location = await _get(target)
                if status not in REDIRECTS or not location:
                    return status == code if code else 200 <= status < 500
                target = urljoin(target, location)
    except (OSError, ValueError, OverflowError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    return False


async def exec_probe(runtime: Runtime, id: str, plan: HealthPlan) -> bool:
    """Whether the command inside the workload ends with 0 in time."""
    session = None
    try:
        async with asyncio.timeout(plan.timeout_s):
            session = await runtime.exec(id, plan.command)
            async for _ in session:
                pass
            return await session.exit_code() == 0
    except (EngineError, OSError, asyncio.IncompleteReadError):
        return False
    finally:
        if session is not None:
            await session.close()


async def _get(target: str) -> tuple[int, str]:
    """Status and `Location` of one page, http or https."""
    url = urlsplit(target)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{target!r} is no page")
    secure = url.scheme == "https"
    reader, writer = await asyncio.open_connection(
        url.hostname, url.port or (443 if secure else 80), ssl=secure or None
    )
    try:
        path = (url.path or "/") + ("?" + url.query if url.query else "")
        path = path.replace(" ", "%20").replace("\r", "").replace("\n", "")
        host = url.netloc.rpartition("@")[2]
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: eru-agent\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("utf-8"))
        head = await read_head(reader)
        return head.status, head.headers.get("location", "")
    finally:
        writer.transport.abort()
