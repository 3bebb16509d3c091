"""`eru up`: a core, an agent and this machine as a node, in steps that each find out first what there is to do.

A step that fails takes back what this run has done before it.
"""

from __future__ import annotations

import errno
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from eru.config import CoreConfig, load_core
from eru.lib.undo import UndoStack
from eru.lib.world import World
from eru.model.errors import CoreUnreachable, Expired, InvalidInput, Refused
from eru.model.names import check_name
from eru.roots import machine, process
from eru.roots.files import (
    DEFAULT_BIND,
    DEFAULT_POD,
    Wanted,
    agent_file,
    core_file,
    write_private,
    written_agent_bind,
    written_engine,
    written_node,
)
from eru.roots.state import State
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient, connect

START_WAIT_S = 30.0
AVAILABLE_WAIT_S = 60.0
STOP_WAIT_S = 40.0
POLL_S = 0.1
CALL_S = 15.0
_IDENTIFIER_DIGITS = 16

Say = Callable[[str], None]


@dataclass(slots=True)
class Up:
    """One run. `say` gets a line per step."""

    world: World
    state: State
    wanted: Wanted
    say: Say
    undo: UndoStack = field(default_factory=UndoStack)

    async def run(self) -> None:
        """Raises EruError with one sentence; nothing of this run is left then."""
        node = check_name("node name", self.wanted.node or written_node(self.state) or machine.node_name())
        engine = self.wanted.engine or written_engine(self.state)
        machine.check_socket(engine)
        self.state.make()
        with process.pid_file(self.state.up_pid, "eru up"):
            async with self.undo:
                config = await self._files(node, engine)
                await self._core(config)
                async with client_of(self.world, config) as core:
                    await self._pod_and_node(core, node, engine)
                    await self._agent(core, node)

    async def _files(self, node: str, engine: str) -> CoreConfig:
        """The configuration: as it is written, or newly written."""
        state = self.state
        if not state.core_config.exists():
            nofile = machine.fitting_nofile(engine)
            identifier = self.world.hex(_IDENTIFIER_DIGITS)
            if not state.data.exists():
                self._take_back_later(state.data)
            self._write(state.core_config, core_file(state, self.wanted, identifier, nofile))
        if not state.agent_config.exists():
            self._write(state.agent_config, agent_file(state, self.wanted, node, engine))
        config = load_core(state.core_config).settings
        if self.wanted.bind and self.wanted.bind != config.bind:
            raise Refused(
                f"the cluster in {state.place} is set up for {config.bind}, not {self.wanted.bind}; "
                f"type `eru down`, change bind in {state.core_config} and core in {state.agent_config}, "
                "or name another directory with --state"
            )
        return config

    def _write(self, path: Path, text: str) -> None:
        write_private(path, text)
        self._take_back_later(path)

    def _take_back_later(self, path: Path) -> None:
        async def take_back() -> None:
            _remove(path)

        self.undo.push(f"write {path.name}", take_back)

    async def _core(self, config: CoreConfig) -> None:
        began = self.world.clock.monotonic()
        if (pid := process.running(self.state.core_pid)) is not None:
            self.say(f"core: already running (process {pid}, {config.bind})")
        else:
            check_port(config.bind, "core", "--bind")
            started = process.spawn(["core", "--config", str(self.state.core_config)], self.state.core_log)
            self.undo.push("start core", self._stopper(self.state.core_pid, "core"))
            await self._answers(config, started)
            self.say(f"core: started (process {started.pid}, {config.bind}, {config.store} store){self._took(began)}")

    async def _answers(self, config: CoreConfig, started: subprocess.Popen[bytes]) -> None:
        """Wait for a core that was just started. Raises with its own last words if it ended."""
        end = self.world.clock.monotonic() + START_WAIT_S
        async with client_of(self.world, config) as core:
            while True:
                try:
                    await core.unary(rpc.Info, pb.Empty(), timeout_s=2)
                    return
                except CoreUnreachable:
                    pass
                if started.poll() is not None:
                    raise Refused(f"core did not start: {last_words(self.state.core_log)}")
                if self.world.clock.monotonic() > end:
                    late = f"core did not answer on {config.bind} within {START_WAIT_S:g} s"
                    raise Expired(f"{late}, see {self.state.core_log}")
                await self.world.clock.sleep(POLL_S)

    async def _pod_and_node(self, core: CoreClient, node: str, engine: str) -> None:
        began = self.world.clock.monotonic()
        known = await find_node(core, node)
        written = known.podname if known is not None else DEFAULT_POD
        pod = check_name("pod name", self.wanted.pod or written)
        if known is not None and pod != known.podname:
            raise Refused(f"node {node} is in pod {known.podname} and cannot be moved to {pod}: eru node remove {node}")
        pods = await core.unary(rpc.ListPods, pb.Empty())
        if pod not in {each.name for each in pods.pods}:
            await core.unary(rpc.AddPod, pb.AddPodOptions(name=pod, desc="this machine"))
            self.say(f"pod {pod}: added")
        else:
            self.say(f"pod {pod}: there")
        if known is None:
            request = pb.AddNodeOptions(nodename=node, endpoint=engine, podname=pod)
            added = await core.unary(rpc.AddNode, request, timeout_s=CALL_S)
            self.say(f"node {node}: added with {_capacity(added)}{self._took(began)}")
        else:
            self.say(f"node {node}: there, with {_capacity(known)}")

    async def _agent(self, core: CoreClient, node: str) -> None:
        began = self.world.clock.monotonic()
        state = self.state
        started: subprocess.Popen[bytes] | None = None
        pid = process.running(state.agent_pid)
        if pid is None:
            if bind := written_agent_bind(state):
                check_port(bind, "agent", "--agent-bind")
            started = process.spawn(["agent", "--config", str(state.agent_config)], state.agent_log)
            self.undo.push("start agent", self._stopper(state.agent_pid, "agent"))
        end = self.world.clock.monotonic() + AVAILABLE_WAIT_S
        while True:
            found = await find_node(core, node)
            if found is not None and found.available:
                break
            if started is not None and started.poll() is not None:
                raise Refused(f"agent did not start: {last_words(state.agent_log)}")
            if self.world.clock.monotonic() > end:
                raise Expired(f"node {node} did not report within {AVAILABLE_WAIT_S:g} s, see {state.agent_log}")
            await self.world.clock.sleep(POLL_S)
        if started is None:
            self.say(f"agent: already running (process {pid}), node {node} is up")
        else:
            self.say(f"agent: started (process {started.pid}), node {node} is up{self._took(began)}")

    def _stopper(self, pidfile: Path, what: str) -> Callable[[], Awaitable[None]]:
        async def take_back() -> None:
            await process.stop(self.world, pidfile, what, STOP_WAIT_S)

        return take_back

    def _took(self, began: float) -> str:
        return f" in {self.world.clock.monotonic() - began:.1f} s"


@asynccontextmanager
async def client_of(world: World, config: CoreConfig) -> AsyncIterator[CoreClient]:
    """A client of the core with this configuration, on this machine."""
    async with connect(
        [client_address(config.bind)],
        world=world,
        username=config.auth.username,
        password=config.auth.password,
        call_timeout_s=CALL_S,
        connect_timeout_s=1,
    ) as client:
        yield client


def client_address(bind: str) -> str:
    """Where to reach, on this machine, what listens on `bind`."""
    host, _, port = bind.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("", "[::]", "0.0.0.0") else bind


def check_port(bind: str, who: str, option: str) -> None:
    """Raises Refused when the address cannot be listened on; `option` of `eru up` chooses another one."""
    if bind.startswith("unix:"):
        return  # core itself says best what is wrong with a path
    host, _, port = (bind or DEFAULT_BIND).rpartition(":")
    host = host.strip("[]")
    if not port.isdigit():
        return  # the program says best what is wrong with its own setting
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Refused(
                    f"port {port} on {host} is in use by another process; stop it, or take another one: "
                    f"eru up {option} {host}:{int(port) + 1}"
                ) from error
            raise InvalidInput(f"{who} cannot listen on {bind}: {error.strerror}") from error


async def find_node(core: CoreClient, name: str) -> pb.Node | None:
    """The node as core sees it, or None when it does not know it."""
    async for node in core.stream(rpc.ListPodNodes, pb.ListNodesOptions(all=True, skip_info=True)):
        if node.name == name:
            return node
    return None


def last_words(log: Path) -> str:
    """The error that a process ended with, out of its log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    told = [line.removeprefix("error: ") for line in lines[-20:] if line.startswith("error: ")]
    return f"{(told or lines or ['it said nothing'])[-1]} (log: {log})"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _capacity(node: pb.Node) -> str:
    try:
        record = json.loads(node.resource_capacity)["cpumem"]
        return f"{record['cpu']:g} CPUs and {record['memory'] / 2**30:.1f} GiB of memory for workloads"
    except (ValueError, KeyError, TypeError):
        return "what its engine reports"
