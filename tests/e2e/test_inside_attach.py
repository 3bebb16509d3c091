"""Attaching to the main program of a workload, on real Docker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from eru.core.app import Core
from eru.core.ops.attach import attach
from eru.core.ops.execute import ExecRequest, Output
from eru.core.ops.files import send
from eru.model.deploy import FileToSend
from eru.model.errors import InvalidInput, NotFound
from support.docker import limits_here
from support.inside import core_with_node, run

pytestmark = pytest.mark.docker

CONSOLE = ["sh", "-c", "while read word; do echo got $word; [ $word = end ] && exit 7; done"]


@pytest.fixture
async def core(docker_endpoint: str) -> AsyncIterator[Core]:
    async with core_with_node(docker_endpoint, limits_here()) as core:
        yield core


async def typed(*parts: bytes, stay: bool = False) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if stay:
        await asyncio.Event().wait()


async def test_input_reaches_the_program_and_leaving_ends_nothing(core: Core) -> None:
    [id] = await run(core, CONSOLE, open_stdin=True)
    request = ExecRequest(id=id, commands=[], interactive=True)
    seen = b""
    async for output in attach(core, request, typed(b"one\n", stay=True)):
        seen += output.data
        if b"got one" in seen:
            break  # as a client that leaves
    outputs: list[Output] = []
    async for output in attach(core, request, typed(b'\x80{"Row":40,"Col":100}', b"end\n", stay=True)):
        outputs.append(output)
    text = b"".join(output.data for output in outputs)
    assert b"got end" in text
    assert b"got one" not in text, "only what comes from now on"
    assert outputs[-1].exit_code == 7


async def test_output_alone_in_whole_lines(core: Core) -> None:
    script = "until [ -e /tmp/enough ]; do echo tick; sleep 0.1; done; echo last; exit 3"
    [id] = await run(core, ["sh", "-c", script])
    request = ExecRequest(id=id, commands=[])
    outputs: list[Output] = []
    async for output in attach(core, request, typed()):
        if not outputs:
            sent = [done async for done in send(core, [id], [FileToSend(path="/tmp/enough", content=b"")])]
            assert [done.error for done in sent] == [""]
        outputs.append(output)
    assert outputs[0].data == b"tick\n"
    assert outputs[-2].data == b"last\n"
    assert all(output.data.endswith(b"\n") for output in outputs[:-1])
    assert outputs[-1].exit_code == 3
    with pytest.raises(InvalidInput, match="does not run"):
        [output async for output in attach(core, request, typed())]
    with pytest.raises(NotFound):
        [output async for output in attach(core, ExecRequest(id="0" * 64, commands=[]), typed())]
