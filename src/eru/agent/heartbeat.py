"""The node's heartbeat and farewell, and its registration with core."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import structlog

from eru.agent.notices import Notices
from eru.agent.runtime import Runtime
from eru.agent.settings import AgentSettings, TlsSettings
from eru.lib.retry import Backoff
from eru.lib.world import World
from eru.model.errors import CoreUnreachable, EngineError, EruError, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient

TTL_BEATS = 3  # a node lives for so many missed beats
RETRY_MOST_S = 10.0
FAREWELL = -1
UNIMPLEMENTED = 12
_LOGIN = re.compile(r"invalid grpc (username|password)", re.IGNORECASE)  # how every core says it
_ALREADY = re.compile(r"already exist", re.IGNORECASE)

_log = structlog.get_logger(__name__)


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What core says of this node. `node_ip`: host part of its endpoint, else loopback."""

    node_ip: str
    podname: str


class Heartbeat:
    """Waits until core knows the node, then beats. `recovered` runs after a gap."""

    def __init__(
        self,
        settings: AgentSettings,
        world: World,
        core: CoreClient,
        runtime: Runtime,
        notices: Notices,
        recovered: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._world = world
        self._core = core
        self._runtime = runtime
        self._notices = notices
        self._recovered = recovered
        self._missed = False
        self._refused = False  # core answers, but not for this node
        self.last_beat: float | None = None  # monotonic seconds
        self.beats_total = 0
        self.failures_total = 0

    def suspect(self) -> None:
        """Somebody could not reach core: after the next beat, everything is reported again."""
        self._missed = True

    async def registration(self) -> Registration:
        """Waits until core answers and knows the node, registering it if that is configured."""
        backoff = Backoff(self._world, first_s=0.2, most_s=RETRY_MOST_S)
        name = self._settings.hostname
        while True:
            try:
                node = await self._core.unary(
                    rpc.GetNode, pb.GetNodeOptions(nodename=name), timeout_s=self._settings.timeout_s
                )
            except CoreUnreachable as error:
                self._notices.trouble("core", "core cannot be reached, trying on", error=str(error))
            except RemoteError as error:
                self._notices.over("core", "core answers")
                self._refused = True
                if why := _not_about_the_node(error):
                    self._notices.trouble("registration", why, error=str(error))
                elif self._settings.register.podname:
                    await self._register()
                else:
                    self._notices.trouble(
                        "registration",
                        f"core does not know the node {name!r}, trying on: add it with `eru node add`, "
                        "or set hostname in the agent's config to the registered name",
                        error=str(error),
                    )
            else:
                self._refused = False
                self._notices.over("core", "core answers")
                self._notices.over("registration", "core knows the node now", node=name)
                return Registration(node_ip=_ip_of(node.endpoint), podname=node.podname)
            await backoff.wait()

    async def core_identifier(self) -> str:
        """Core's own id, or empty while it does not answer."""
        try:
            info = await self._core.unary(rpc.Info, pb.Empty(), timeout_s=self._settings.timeout_s)
        except EruError:
            return ""
        return str(info.identifier)

    async def run(self) -> None:
        """Beat until cancelled; an interval of 0 or less means never."""
        interval = self._settings.heartbeat_interval
        if interval <= 0:
            _log.info("heartbeat is switched off by heartbeat_interval")
            return
        retry = Backoff(self._world, first_s=0.5, most_s=min(RETRY_MOST_S, interval))
        while True:
            if await self._beat(interval * TTL_BEATS):
                retry.reset()
                await self._world.clock.sleep(interval)
            else:
                self._missed = True
                await self._world.clock.sleep(min(retry.next_s(), interval))

    async def farewell(self) -> None:
        """Tell core that this node goes now. Errors only get a line: the ttl will tell the same."""
        if self._settings.heartbeat_interval <= 0 or self._refused:
            return
        try:
            await self._set(FAREWELL)
        except EruError as error:
            _log.warning("farewell did not reach core, the node is seen as down when its ttl ends", error=str(error))

    async def _beat(self, ttl_s: int) -> bool:
        try:
            await self._runtime.ping()
        except EngineError as error:
            self.failures_total += 1
            self._notices.trouble("engine", "engine does not answer, no heartbeat is sent meanwhile", error=str(error))
            return False
        self._notices.over("engine", "engine answers again")
        try:
            await self._set(ttl_s)
        except EruError as error:
            self.failures_total += 1
            self._notices.trouble("heartbeat", "heartbeat failed, trying on", error=str(error))
            return False
        self._notices.over("heartbeat", "heartbeat works again")
        late = self.last_beat is not None and self._world.clock.monotonic() - self.last_beat > ttl_s
        self.last_beat = self._world.clock.monotonic()
        self.beats_total += 1
        if self._missed or late:
            self._missed = False
            self._recovered()
        return True

    async def _set(self, ttl_s: int) -> None:
        await self._core.unary(
            rpc.SetNodeStatus,
            pb.SetNodeStatusOptions(nodename=self._settings.hostname, ttl=ttl_s),
            timeout_s=self._settings.timeout_s,
        )

    async def _register(self) -> None:
        wanted = self._settings.register
        try:
            tls = _read(wanted.tls)
        except (OSError, UnicodeDecodeError) as error:
            self._notices.trouble("registration", "register.tls file cannot be read, trying on", error=str(error))
            return
        options = pb.AddNodeOptions(
            nodename=self._settings.hostname,
            endpoint=wanted.endpoint or self._settings.docker.endpoint,
            podname=wanted.podname,
            labels=wanted.labels,
            resources={kind: json.dumps(bag).encode() for kind, bag in wanted.resources.items()},
            test=wanted.test,
            **tls,
        )
        try:
            await self._core.unary(rpc.AddNode, options, timeout_s=max(self._settings.timeout_s, 10.0))
            _log.info("node registered with core", node=options.nodename, pod=options.podname)
        except EruError as error:
            if not _ALREADY.search(str(error)):
                self._notices.trouble("registration", "node cannot be registered, trying on", error=str(error))


def _read(tls: TlsSettings) -> dict[str, str]:
    """The content of the files, by the names of the request's fields. Raises OSError or UnicodeDecodeError."""
    return {name: Path(path).read_text() for name, path in msgspec.structs.asdict(tls).items() if path}


def _not_about_the_node(error: RemoteError) -> str:
    """What core's refusal is about, if it has nothing to do with this node."""
    if _LOGIN.search(str(error)):
        return "core refuses the agent's login, trying on: check auth.username and auth.password"
    if error.code == UNIMPLEMENTED:
        return "what answers at the address of core is no core, trying on: check core in the agent's config"
    return ""


def _ip_of(endpoint: str) -> str:
    try:
        host = urlsplit(endpoint).hostname
    except ValueError:
        host = None
    return host or "127.0.0.1"
