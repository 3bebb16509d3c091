"""A node for agent tests: a core that records what it is told, receivers, the agent as a process, workloads."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import yaml

from eru.wire import core_pb2 as pb
from eru.wire import core_pb2_grpc
from support.docker import ask
from support.ports import free_port

NODE = f"agent-node-{os.getpid()}"  # agents of other runs on the same Docker leave its workloads alone
POD = "agent-pod"
WAIT_S = 60.0
PROGRAM = (
    "import asyncio, os, sys\n"
    "from eru.agent.app import run_agent\n"
    "from eru.agent.settings import load_settings\n"
    "from eru.lib.log import configure_logging\n"
    "from eru.lib.world import real_world\n"
    "configure_logging('info')\n"
    "sys.exit(asyncio.run(run_agent(load_settings(sys.argv[1], environ=os.environ), real_world())))\n"
)


async def until(true: Callable[[], Any], what: str, seconds: float = WAIT_S) -> None:
    """Wait for a condition (or a coroutine of one); its absence is a failure that names it."""
    end = time.monotonic() + seconds
    while True:
        answer = true()
        if await answer if isinstance(answer, Awaitable) else answer:
            return
        assert time.monotonic() < end, f"still not: {what}"
        await asyncio.sleep(0.02)


class RecordingCore(core_pb2_grpc.CoreRPCServicer):
    """Answers what agents ask. `known`: registered nodes; `refused`: workload ids whose status it rejects."""

    def __init__(self) -> None:
        self.known = {NODE}
        self.refused: set[str] = set()
        self.beats: list[tuple[str, int]] = []
        self.statuses: list[tuple[float, pb.WorkloadStatus]] = []
        self.calls = 0
        self.added: list[pb.AddNodeOptions] = []
        self.metadata: list[dict[str, str]] = []
        self._server: grpc.aio.Server | None = None
        self.port = free_port()

    async def start(self) -> None:
        self._server = grpc.aio.server()
        core_pb2_grpc.add_CoreRPCServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def Info(self, request: pb.Empty, context: Any) -> pb.CoreInfo:
        return pb.CoreInfo(identifier="core-id")

    async def GetNode(self, request: pb.GetNodeOptions, context: Any) -> pb.Node:
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        if request.nodename not in self.known:
            await context.abort(grpc.StatusCode.UNKNOWN, f"no node {request.nodename}")
        return pb.Node(name=request.nodename, podname=POD, endpoint="tcp://10.1.2.3:2376")

    async def AddNode(self, request: pb.AddNodeOptions, context: Any) -> pb.Node:
        self.added.append(request)
        self.known.add(request.nodename)
        return pb.Node(name=request.nodename, podname=request.podname, endpoint=request.endpoint)

    async def SetNodeStatus(self, request: pb.SetNodeStatusOptions, context: Any) -> pb.Empty:
        self.beats.append((request.nodename, request.ttl))
        return pb.Empty()

    async def SetWorkloadsStatus(self, request: pb.SetWorkloadsStatusOptions, context: Any) -> pb.WorkloadsStatus:
        self.calls += 1
        if self.refused.intersection(status.id for status in request.status):
            await context.abort(grpc.StatusCode.UNKNOWN, "entity count invalid")
        self.statuses.extend((time.monotonic(), status) for status in request.status)
        return pb.WorkloadsStatus(status=request.status)

    def of(self, id: str) -> list[pb.WorkloadStatus]:
        """What was reported of one workload, oldest first."""
        return [status for _, status in self.statuses if status.id == id]

    def last(self, id: str) -> pb.WorkloadStatus:
        found = self.of(id)
        return found[-1] if found else pb.WorkloadStatus()


@asynccontextmanager
async def recording_core() -> AsyncIterator[RecordingCore]:
    core = RecordingCore()
    await core.start()
    try:
        yield core
    finally:
        await core.stop()


class TcpSink:
    """Takes lines of JSON; can go away and come back on its port, or stop reading."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.data = bytearray()
        self.host = host
        self.port = free_port()
        self.kernel_bytes = 0  # what the kernel may hold that was not read, half of it for itself; 0: as it likes
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.reading = asyncio.Event()
        self.reading.set()

    async def start(self) -> None:
        listening = socket.create_server((self.host, self.port))
        if self.kernel_bytes:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.kernel_bytes // 2)  # the kernel doubles it
        self._server = await asyncio.start_server(self._serve, sock=listening)

    @property
    def address(self) -> str:
        return f"tcp://{self.host}:{self.port}"

    async def stop(self) -> None:
        """As a killed receiver: connections are reset."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        rest = b""  # a connection that breaks may end in the middle of a line
        try:
            while True:
                await self.reading.wait()
                data = await reader.read(1 << 20)
                if not data:
                    return
                complete, newline, rest = (rest + data).rpartition(b"\n")
                self.data += complete + newline
        except OSError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def lines(self) -> list[bytes]:
        """Complete ones only."""
        return bytes(self.data[: self.data.rfind(b"\n") + 1]).splitlines()

    def records(self, id: str = "") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.lines()]
        return [record for record in found if not id or record["id"] == id]

    def texts(self, id: str, stream: str = "stdout") -> list[str]:
        return [record["data"] for record in self.records(id) if record["type"] == stream]


def chosen(id: str, forwards: int) -> int:
    """The place in the list of forwards where the records of a workload go, as published."""
    value = 0x811C9DC5
    for byte in id.encode():
        value = ((value ^ byte) * 0x01000193) % 2**32
    return value % forwards


class AgentProcess:
    """The agent as its own process; `settings` are laid over a short-tempered default."""

    def __init__(self, folder: Path, core_port: int, docker: str, **settings: Any) -> None:
        self.folder = folder
        self.config = folder / "agent.yaml"
        self.log = folder / "agent.log"
        self._process: subprocess.Popen[bytes] | None = None
        defaults = {
            "pid": str(folder / "agent.pid"),
            "core": [f"127.0.0.1:{core_port}"],
            "hostname": NODE,
            "heartbeat_interval": 1,
            "check_only_mine": True,
            "docker": {"endpoint": docker},
            "metrics": {"step": 1},
            "api": {"addr": f"127.0.0.1:{free_port()}"},
            "healthcheck": {"interval": 1, "timeout": 1},
            "global_connection_timeout": "2s",
            "state_dir": str(folder / "state"),
        }
        self.settings = {**defaults, **settings}

    def forward_to(self, *addresses: str) -> None:
        """Where records go; as `forwards` of agent.yaml."""
        self.settings["log"] = {**self.settings.get("log", {}), "forwards": list(addresses)}

    def start(self) -> None:
        self.config.write_text(yaml.safe_dump(self.settings))
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(self.config)], stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code, while the core in this process goes on answering."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return await asyncio.to_thread(process.wait, WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    async def get(self, path: str) -> bytes:
        """From the agent's HTTP API."""
        address = self.settings["api"]["addr"]

        def fetch() -> bytes:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
                return bytes(answer.read())

        return await asyncio.to_thread(fetch)

    async def fine(self) -> bool:
        """Whether the agent says that it sees core and engine."""
        try:
            return bool(json.loads(await self.get("/healthz"))["ok"])
        except OSError:
            return False


class Workloads:
    """Containers with the labels and names of workloads, removed at the end."""

    def __init__(self, endpoint: str, node: str = NODE) -> None:
        self._socket = Path(endpoint.removeprefix("unix://"))
        self._node = node
        self._count = 0
        self._tag = f"{os.getpid():x}"[-3:].rjust(3, "x")
        self.ids: list[str] = []

    def create(
        self,
        *command: str,
        app: str = "agt",
        entry: str = "web",
        labels: dict[str, str] | None = None,
        tty: bool = False,
        network: str = "none",
        **host: Any,
    ) -> str:
        """Make one without starting it; its id. `host`: more of Docker's HostConfig."""
        self._count += 1
        name = f"{app}_{entry}_{self._tag}{self._count:03d}"
        made = self.ask(
            "POST",
            f"/containers/create?name={name}",
            {
                "Image": "bb",
                "Cmd": list(command),
                "Labels": {"ERU": "1", "eru.nodename": self._node, **(labels or {})},
                "Env": [f"ERU_POD={POD}", f"ERU_NODE_NAME={self._node}"],
                "Tty": tty,
                "HostConfig": {"NetworkMode": network, **host},
            },
        )
        self.ids.append(made["Id"])
        return str(made["Id"])

    def run(self, *command: str, **more: Any) -> str:
        """Make and start one; its id."""
        id = self.create(*command, **more)
        self.ask("POST", f"/containers/{id}/start")
        return id

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A call to Docker; its refusal is a failure."""
        status, data = ask(
            self._socket, method, path, b"" if body is None else json.dumps(body).encode(), "application/json"
        )
        assert status < 300, f"{method} {path}: {status} {data!r}"
        return json.loads(data) if data else {}

    def clean(self) -> None:
        for id in self.ids:
            ask(self._socket, "DELETE", f"/containers/{id}?force=1&v=1")


class Printer:
    """A workload that prints `line 0`, `line 1`, ... with a pause after each burst, and `end` when it is told to.

    So what a test does in the middle of its output is in the middle on every machine.
    """

    def __init__(self, workloads: Workloads, folder: Path, *, burst: int = 50, **more: Any) -> None:
        self._told = folder / "printer"
        self._told.mkdir()
        loop = f"echo line $i; i=$((i+1)); [ $((i%{burst})) = 0 ] && sleep 0.02"
        script = f"i=0; while [ ! -e /told/end ]; do {loop}; done; echo end $i; sleep 1000"
        self.id = workloads.run("sh", "-c", script, Binds=[f"{self._told}:/told"], **more)

    def end(self) -> None:
        """Returns at once; the last line comes soon."""
        (self._told / "end").touch()

    @staticmethod
    def numbers(texts: list[str]) -> list[int]:
        """Of the lines, in the order in which they came."""
        return [int(text.split()[1]) for text in texts if text.startswith("line ")]

    @staticmethod
    def printed(texts: list[str]) -> int:
        """How many lines there were in all; 0 while the end has not come."""
        return next((int(text.split()[1]) for text in texts if text.startswith("end ")), 0)
