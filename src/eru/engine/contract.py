"""What an engine must offer, and what it may offer.

An engine is a handle on one node's runtime. Every call is bounded in time.
Errors: `EngineUnreachable` (nothing happened), `EngineOutcomeUnknown` (sent,
answer lost), `EngineRefused` (its own words), `EngineMissing` (no such
object), `NotSupported` (see `capabilities`; callers check first and tell the
user which engine lacks what). `engine.conformance` is the test suite for it.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from eru.model.deploy import FileToSend, LogConfig
from eru.model.nodes import EngineInfo, Resources


class Capability(str, enum.Enum):
    """Abilities beyond create, start, stop, remove, inspect and list."""

    EXEC = "exec"
    TTY = "tty"
    ATTACH = "attach"
    LOGS = "logs"
    FILES = "files"
    SUSPEND = "suspend"
    LIVE_UPDATE = "live update of resources"
    NETWORKS = "networks"
    IMAGES = "images"
    BUILD = "image build"
    RAW = "raw calls"
    EVENTS = "events"
    FIGURES = "figures of use"


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults that an engine may refuse, so they come from configuration.

    `nofile` 0: leave the engine's own default. `memory_floor` is the least
    memory limit and `memory_reservation_floor` the least reservation in bytes
    that the engine accepts.
    """

    nofile_soft: int = 65535
    nofile_hard: int = 65535
    memory_floor: int = 6 * 1024 * 1024
    memory_reservation_floor: int = 6 * 1024 * 1024
    network_mode: str = "host"
    use_local_dns: bool = False
    start_parallel_max: int = 32


class CreateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an engine needs to create one workload; decided before, nothing left to choose.

    `params` are the resource kinds' engine parameters, for example
    `{"cpumem": {"cpu": 0.5, "cpu_map": {...}, "memory": 536870912}}`.
    `ancestor`: id of the workload this one replaces, or "".
    """

    name: str
    image: str
    commands: list[str] = []
    env: list[str] = []
    labels: dict[str, str] = {}
    dir: str = ""
    user: str = ""
    privileged: bool = False
    networks: dict[str, str] = {}
    publish: list[str] = []
    dns: list[str] = []
    extra_hosts: list[str] = []
    sysctls: dict[str, str] = {}
    restart: str = ""
    log: LogConfig | None = None
    debug: bool = False
    lambda_: bool = False
    open_stdin: bool = False
    tty: bool = True  # with open_stdin: on a terminal
    params: Resources = {}
    raw_args: dict[str, Any] = {}
    ancestor: str = ""


class Created(msgspec.Struct, frozen=True, kw_only=True):
    """`labels`: any the engine added itself."""

    id: str
    labels: dict[str, str] = {}


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine says of one workload. `networks`: network name -> address ("": none there), while running.

    `health_address`: where probes from the node itself reach it. `pid` 0: none. `started_at`, `finished_at`: Unix
    seconds, 0 for never. `restarts`: how often the engine itself started it again. `error`: why it could not start.
    """

    id: str
    name: str
    running: bool
    user: str = ""
    image: str = ""
    env: list[str] = []
    labels: dict[str, str] = {}
    networks: dict[str, str] = {}
    exit_code: int = 0
    started_at: float = 0.0
    pid: int = 0
    tty: bool = False
    paused: bool = False
    finished_at: float = 0.0
    oom_killed: bool = False
    restarts: int = 0
    error: str = ""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a listing."""

    id: str
    name: str
    running: bool
    labels: dict[str, str] = {}


class Stream(enum.IntEnum):
    """Which output a chunk came from; numbers as on the wire."""

    STDOUT = 0
    STDERR = 1


class Chunk(msgspec.Struct, frozen=True):
    """Bytes of output. Logs: one line incl. its newline, `time_ns` if asked for."""

    stream: Stream
    data: bytes
    time_ns: int = 0


class Session(Protocol):
    """A running exec or attach: output to read, input to write, an end to wait for."""

    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    async def write(self, data: bytes) -> None: ...

    async def close_input(self) -> None:
        """Signal end of input; output goes on."""

    async def resize(self, height: int, width: int) -> None: ...

    async def exit_code(self) -> int:
        """After the output has ended."""

    async def close(self) -> None: ...


class NetworkInfo(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    subnets: list[str] = []


class ImageInfo(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    tags: list[str] = []


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One progress message of pull, push or build, as Docker's JSON stream has them."""

    id: str = ""
    status: str = ""
    progress: str = ""
    stream: str = ""
    error: str = ""
    error_code: int = 0


class EngineEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to a workload: action is `start`, `die`, `destroy`, ..."""

    id: str
    action: str
    time_ns: int
    labels: dict[str, str] = {}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one workload uses at `time_ns` (the engine's clock). One that does not run: all zero but the time.

    `cpu_ns`: CPU time since it started. `memory`: bytes that cannot simply be dropped, so without the page
    cache; `memory_limit` 0: none below the machine's. `received`, `sent`: bytes over its own networks.
    """

    time_ns: int
    cpu_ns: int = 0
    memory: int = 0
    memory_limit: int = 0
    processes: int = 0
    received: int = 0
    sent: int = 0


class Engine(Protocol):
    """A handle on one node's engine. Abilities not in `capabilities` raise NotSupported."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def type(self) -> str:
        """`docker`, `fake`, `virt`, ..."""

    async def info(self) -> EngineInfo: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...

    # Life of a workload. `create` with a name that exists raises EngineRefused.
    async def create(self, spec: CreateSpec) -> Created: ...

    async def start(self, id: str) -> None:
        """No error when it already runs."""

    async def stop(self, id: str, grace_s: float | None = None) -> None:
        """`grace_s` None: the engine's default; 0: at once. No error when it is stopped."""

    async def remove(self, id: str, *, force: bool = False, volumes: bool = True) -> None:
        """Raises EngineMissing, and EngineRefused for a running one without force."""

    async def inspect(self, id_or_name: str) -> Inspection: ...

    async def find(self, labels: Mapping[str, str], *, running_only: bool = False) -> list[Listed]:
        """Workloads that carry all `labels` (value "" matches any value)."""

    async def wait(self, id: str) -> int:
        """Until it is not running; its exit code."""

    async def suspend(self, id: str) -> None: ...

    async def resume(self, id: str) -> None: ...

    async def update(self, id: str, params: Resources) -> None:
        """Change resources of a live workload; same shape as CreateSpec.params."""

    # Looking inside.
    async def figures(self, id: str) -> Figures:
        """At once, without waiting for a second look: rates are for the caller to compute."""

    def logs(
        self,
        id: str,
        *,
        tail: str = "all",
        since: str = "",
        until: str = "",
        follow: bool = False,
        timestamps: bool = False,
    ) -> AsyncIterator[Chunk]:
        """Lines; a tty workload's output is all STDOUT."""

    async def attach(self, id: str, *, stdin: bool = False, past: bool = True) -> Session:
        """A workload's main program: its output, what it has printed before too if `past`, and its input."""

    async def exec(
        self,
        id: str,
        commands: Sequence[str],
        *,
        env: Sequence[str] = (),
        dir: str = "",
        user: str = "",
        privileged: bool = False,
        tty: bool = False,
        stdin: bool = False,
    ) -> Session: ...

    async def send_file(self, id: str, file: FileToSend) -> None: ...

    async def send_stream(
        self, id: str, path: str, size: int, mode: int, uid: int, gid: int, chunks: AsyncIterator[bytes]
    ) -> None:
        """A file of exactly `size` bytes, in constant memory."""

    def read_archive(self, id: str, path: str) -> AsyncIterator[bytes]:
        """A file or directory as the bytes of a tar stream. Raises EngineMissing."""

    # Networks.
    async def networks(self, driver: str = "") -> list[NetworkInfo]: ...

    async def connect_network(self, network: str, id: str, ipv4: str = "", ipv6: str = "") -> list[str]:
        """The subnets (or addresses) it got."""

    async def disconnect_network(self, network: str, id: str, *, force: bool = False) -> None: ...

    # Images. A failure reported inside a progress stream is a Progress with `error`.
    async def images(self, reference: str = "") -> list[ImageInfo]: ...

    async def local_digests(self, image: str) -> list[str]:
        """Empty when the image is not here."""

    async def remote_digest(self, image: str) -> str:
        """`<name>@<digest>` by the registry."""

    def pull(self, image: str) -> AsyncIterator[Progress]: ...

    def push(self, image: str) -> AsyncIterator[Progress]: ...

    def build(
        self, context: AsyncIterator[bytes], refs: Sequence[str], *, platform: str = ""
    ) -> AsyncIterator[Progress]: ...

    async def commit(self, id: str, ref: str) -> str:
        """Make an image of a workload; the image id."""

    async def tag(self, image: str, ref: str) -> None: ...

    async def remove_image(self, image: str, *, force: bool = False, prune: bool = True) -> list[str]:
        """What was untagged or deleted."""

    async def prune_images(self) -> None: ...

    async def prune_build_cache(self) -> None: ...

    # The rest.
    def events(self, labels: Mapping[str, str], since_ns: int = 0) -> AsyncIterator[EngineEvent]: ...

    async def raw(self, id: str, op: str, params: bytes) -> bytes: ...
