"""A node whose Docker is reached over TLS: all of a workload's life, and Docker going away and coming back."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from eru.core.app import Core
from eru.core.ops.execute import ExecRequest, execute
from eru.core.ops.nodes import add_node, get_node
from eru.core.ops.remove import remove
from eru.model.errors import EngineUnreachable, NotFound
from eru.model.requests import NewNode
from support.docker import ExtraDocker, extra_docker, limits_here, make_certificates
from support.inside import NODE, POD, core_with_node, run

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def docker(docker_endpoint: str) -> Iterator[ExtraDocker]:
    base = Path(tempfile.mkdtemp(prefix="eru-n-"))
    with extra_docker(base, "bb", Path(docker_endpoint.removeprefix("unix://"))) as docker:
        yield docker


@pytest.fixture
async def core(docker: ExtraDocker) -> AsyncIterator[Core]:
    async with core_with_node(docker.tls_endpoint, limits_here(), tls=docker.tls) as core:
        yield core


async def output_of(core: Core, id: str, *commands: str) -> bytes:
    async def nothing() -> AsyncIterator[bytes]:
        for part in ():
            yield part

    request = ExecRequest(id=id, commands=list(commands))
    return b"".join([output.data async for output in execute(core, request, nothing())])


async def test_workloads_live_on_a_node_behind_tls(core: Core, docker: ExtraDocker) -> None:
    ids = await run(core, ["sleep", "1000"], count=2)
    assert await output_of(core, ids[0], "echo", "over tls") == b"over tls\n[exitcode] 0"
    assert await output_of(core, ids[0], "sh", "-c", "echo $ERU_NODE_IP") == b"127.0.0.1\n[exitcode] 0"
    node = await get_node(core, NODE)
    assert node.node.has_tls
    assert "PRIVATE KEY" not in repr(node)
    assert [str(result.error or "") async for result in remove(core, ids, force=True)] == ["", ""]


async def test_bad_certificates_add_no_node_and_hurt_no_neighbour(core: Core, docker: ExtraDocker) -> None:
    [id] = await run(core, ["sleep", "1000"])
    stranger = make_certificates().client
    for tls in (stranger, None):
        with pytest.raises(EngineUnreachable, match="give"):
            await add_node(core, NewNode(name="other", podname=POD, endpoint=docker.tls_endpoint, tls=tls, test=True))
        with pytest.raises(NotFound):
            await get_node(core, "other")
    assert await output_of(core, id, "echo", "still here") == b"still here\n[exitcode] 0"


async def test_a_docker_that_was_killed_is_used_again_when_it_is_back(core: Core, docker: ExtraDocker) -> None:
    [id] = await run(core, ["sleep", "1000"])
    docker.kill()
    said = [await output_of(core, id, "true") for _ in range(2)]
    assert all(b"exitcode" not in text for text in said)
    assert b"unreachable" in said[-1] or b"nothing listens" in said[-1]
    docker.start()
    async with asyncio.timeout(60):
        while await output_of(core, id, "echo", "back") != b"back\n[exitcode] 0":  # noqa: ASYNC110 - the pool mends by itself
            await asyncio.sleep(0.2)
