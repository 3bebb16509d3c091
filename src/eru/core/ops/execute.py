"""Runs a command inside a workload and carries its input and output."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from eru.core.app import Core
from eru.core.ops.reach import reach
from eru.core.ops.streams import closing, until_drained
from eru.engine.contract import Capability, Chunk, Session, Stream
from eru.lib.tasks import task_owner
from eru.model.errors import EruError, InvalidInput

WINDOW_PREFIX = 0x80  # first byte of an input message that carries a window size
END_PREFIX = 0x1D  # first byte of an input message that ends the input
LINE_BYTES_MAX = 1 << 20  # longer lines come in pieces of this size


class ExecRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`interactive`: with input, and on a terminal unless `tty` is false: then all input is data."""

    id: str
    commands: list[str]
    env: list[str] = []
    dir: str = ""
    interactive: bool = False
    tty: bool = True


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """Output of one workload. `exit_code` is set on the last message of a program that ended."""

    id: str
    data: bytes
    stream: Stream = Stream.STDOUT
    exit_code: int | None = None


class WindowSize(msgspec.Struct, frozen=True, rename="pascal"):
    """JSON after WINDOW_PREFIX."""

    row: int
    col: int


def exited(id: str, code: int) -> Output:
    """The message that ends a program's output."""
    return Output(id=id, data=f"[exitcode] {code}".encode(), exit_code=code)


async def execute(core: Core, request: ExecRequest, inputs: AsyncIterator[bytes]) -> AsyncIterator[Output]:
    """Output as it comes (whole lines unless interactive), then the exit code.

    A failure is one message with its text and no exit code; nothing is raised.
    """
    try:
        async with closing(_run(core, request, inputs)) as outputs:
            async for output in outputs:
                yield output
    except EruError as error:
        yield Output(id=request.id, data=str(error).encode())


async def _run(core: Core, request: ExecRequest, inputs: AsyncIterator[bytes]) -> AsyncIterator[Output]:
    found = await reach(core, request.id, Capability.EXEC)
    if not request.commands:
        raise InvalidInput("no command to execute")
    session = await found.engine.exec(
        found.workload.id,
        request.commands,
        env=request.env,
        dir=request.dir,
        tty=request.interactive and request.tty,
        stdin=request.interactive,
    )
    async with closing(carried(core, request, session, inputs)) as outputs:
        async for output in outputs:
            yield output


async def carried(
    core: Core, request: ExecRequest, session: Session, inputs: AsyncIterator[bytes]
) -> AsyncIterator[Output]:
    """A session's output until its end, and its exit code; input on the way in. Closes the session."""
    try:
        async with task_owner("execute") as tasks:
            if request.interactive:
                tasks.start("input", feed(session, inputs, plain=not request.tty))
            chunks = session.__aiter__()
            async with closing(until_drained(core, chunks if request.interactive else lines(chunks))) as source:
                async for chunk in source:
                    yield Output(id=request.id, data=chunk.data, stream=chunk.stream)
            if not core.draining:
                yield exited(request.id, await session.exit_code())
    finally:
        await session.close()


async def feed(session: Session, inputs: AsyncIterator[bytes], *, plain: bool = False) -> None:
    """A client's input messages into a session; its end is the input's end.

    Unless `plain`, some first bytes are special.
    """
    async for data in inputs:
        if not data:
            continue
        if plain:
            await session.write(data)
        elif data[0] == WINDOW_PREFIX:
            await _resize(session, data[1:])
        elif data[0] == END_PREFIX:
            break
        else:
            await session.write(data)
    await session.close_input()


async def _resize(session: Session, text: bytes) -> None:
    try:
        size = msgspec.json.decode(text, type=WindowSize)
    except msgspec.DecodeError:
        return  # a window of unknown size is no reason to end a program
    if 0 < size.row < 1 << 16 and 0 < size.col < 1 << 16:
        await session.resize(size.row, size.col)


async def lines(chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    """Output cut at line ends, each line with its newline; bytes are never changed."""
    pending = {stream: bytearray() for stream in Stream}
    async for chunk in chunks:
        buffer = pending[chunk.stream]
        buffer += chunk.data
        while end := buffer.find(b"\n", 0, LINE_BYTES_MAX) + 1 or (len(buffer) >= LINE_BYTES_MAX and LINE_BYTES_MAX):
            yield Chunk(chunk.stream, bytes(buffer[:end]))
            del buffer[:end]
    for stream, buffer in pending.items():
        if buffer:
            yield Chunk(stream, bytes(buffer))
