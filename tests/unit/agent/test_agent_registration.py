"""What the agent says and does while core does not take it for a node, or its port is taken."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from eru.agent.app import Agent
from eru.agent.heartbeat import Heartbeat
from eru.agent.notices import Notices
from eru.agent.settings import load_settings
from eru.agent.state import StateDir
from eru.lib.world import real_world
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from support.agent_node import until

WORLD = real_world()


class Core:
    """Refuses until told otherwise."""

    def __init__(self, error: RemoteError) -> None:
        self.error: RemoteError | None = error
        self.asked: list[Any] = []

    async def unary(self, method: Any, request: Any, timeout_s: float = 0.0) -> Any:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return pb.Node(name="n", podname="p", endpoint="tcp://10.0.0.1:2376")


class Engine:
    async def ping(self) -> None: ...


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RemoteError("rpc error: bad `Count` value, entity count invalid", code=1031), "does not know the node 'n'"),
        (RemoteError("invalid grpc password", code=2), "check auth.username and auth.password"),
        (RemoteError("core at a:1 does not offer GetNode", code=12), "is no core"),
    ],
)
async def test_it_says_what_is_wrong_tries_on_and_leaves_without_a_farewell(error: RemoteError, words: str) -> None:
    core = Core(error)
    settings = load_settings(None, {"core-endpoint": "a:1", "hostname": "n"})
    heartbeat = Heartbeat(settings, WORLD, core, Engine(), Notices(WORLD), lambda: None)  # type: ignore[arg-type]
    with capture_logs() as said:
        waiting = asyncio.get_running_loop().create_task(heartbeat.registration())
        await until(lambda: len(core.asked) > 1, "a second try")
        asked = len(core.asked)
        await heartbeat.farewell()
        assert not [request for request in core.asked[asked:] if isinstance(request, pb.SetNodeStatusOptions)]
        assert [line["event"] for line in said if words in line["event"]], said
        assert len(said) == 1, "once, not for each try"
        core.error = None
        assert (await waiting).node_ip == "10.0.0.1"
    await heartbeat.farewell()
    assert core.asked[-1] == pb.SetNodeStatusOptions(nodename="n", ttl=-1)


async def test_a_taken_api_port_is_told_and_had_later(tmp_path: Path) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    path = tmp_path / "agent.yaml"
    path.write_text(
        f"core: ['127.0.0.1:1']\nhostname: n\nstate_dir: {tmp_path}/state\napi: {{addr: '{address}'}}\n"
        f"docker: {{endpoint: 'unix://{tmp_path}/none.sock'}}\nheartbeat_interval: 0\n"
    )
    settings = load_settings(str(path))
    state = StateDir(settings.state_dir)
    await state.claim(WORLD)
    agent = Agent(settings, WORLD, state)
    with capture_logs() as said:
        await agent.start()
        assert not agent.api_port
        taken.close()
        await until(lambda: agent.api_port, "the port is had", 60)
        await agent.close(farewell=False)
    assert [line["event"] for line in said if "api.addr" in line["event"]] == [
        "api.addr cannot be listened on, routes and figures are not served, trying on",
        "api.addr is listened on",
    ]
    state.close()
