"""Output and input of fake workloads: following a log, attach and exec."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable

from eru.engine.contract import Chunk, Stream
from eru.engine.fake import script
from eru.engine.fake.node import FakeContainer, FakeNode
from eru.engine.times import point_ns
from eru.lib.world import World

INPUT_CHUNKS_MAX = 64  # waiting between a writer and the program that reads them

Change = Callable[[FakeContainer, float], Awaitable[None]]


async def follow_log(
    world: World,
    found: FakeContainer,
    change: Change,
    *,
    tail: str,
    since: str,
    until: str,
    follow: bool,
    timestamps: bool,
) -> AsyncIterator[Chunk]:
    """Lines printed so far, then, with `follow`, those to come until the workload ends."""
    now_ns = world.clock.now_ns()
    first_ns = point_ns(since, now_ns) if since else 0
    last_ns = point_ns(until, now_ns) if until else None
    sent = 0
    pending = _lines(found, first_ns, last_ns)
    count = sum(1 for line in pending if line[0] <= now_ns)
    skip = max(count - int(tail), 0) if tail.isdigit() else 0
    while True:
        now_ns = world.clock.now_ns()
        lines = _lines(found, first_ns, last_ns)
        while sent < len(lines) and lines[sent][0] <= now_ns:
            time_ns, stream, data = lines[sent]
            sent += 1
            if sent > skip:
                stream = Stream.STDOUT if found.spec.open_stdin and found.spec.tty else stream
                yield Chunk(stream, data, time_ns if timestamps else 0)
        if not follow or not found.running:
            return
        next_s = lines[sent][0] / 1e9 if sent < len(lines) else math.inf
        await change(found, min(next_s, found.ends_at))


def _lines(found: FakeContainer, first_ns: int, last_ns: int | None) -> list[tuple[int, Stream, bytes]]:
    if found.extra is None:
        return []
    return [line for line in found.extra.log if line[0] >= first_ns and (last_ns is None or line[0] <= last_ns)]


class AttachSession:
    """Attached to a workload's main program: its output, and its input when it is `cat`."""

    def __init__(
        self, world: World, node: FakeNode, found: FakeContainer, change: Change, *, past: bool = True
    ) -> None:
        self._world, self._node, self._found, self._change = world, node, found, change
        now_ns = world.clock.now_ns()
        self._past = 0 if past else sum(1 for line in _lines(found, 0, None) if line[0] <= now_ns)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        number = 0
        async for chunk in follow_log(
            self._world, self._found, self._change, tail="all", since="", until="", follow=True, timestamps=False
        ):
            number += 1
            if number > self._past:
                yield chunk

    async def write(self, data: bytes) -> None:
        data, end, _ = data.partition(b"\x04")  # a terminal's end of input
        if self._found.running and data:
            self._found.more().log.append((self._world.clock.now_ns(), Stream.STDOUT, data))
            self._found.wake()
        if end:
            await self.close_input()

    async def close_input(self) -> None:
        """The end of its input ends a program that reads it."""
        commands = self._found.spec.commands
        if commands and commands[0].rpartition("/")[2] == "cat":
            self._node.end(self._found, self._world.clock.now(), 0)

    async def resize(self, height: int, width: int) -> None:
        """A fake program does not mind."""

    async def exit_code(self) -> int:
        while self._found.running:
            await self._change(self._found, self._found.ends_at)
        return self._found.exit_code

    async def close(self) -> None:
        """The workload goes on."""


class ExecSession:
    """A small program of `script` run inside a workload."""

    def __init__(
        self,
        world: World,
        found: FakeContainer,
        commands: list[str],
        env: list[str],
        dir: str,
        user: str,
        tty: bool,
        stdin: bool,
    ) -> None:
        self._world, self._found, self._tty = world, found, tty
        self._steps = script.parse(commands, env, dir or found.spec.dir, user or found.spec.user)
        self._input: asyncio.Queue[bytes] = asyncio.Queue(INPUT_CHUNKS_MAX)
        self._size = (24, 80)
        self._code: int | None = None
        self._input_ended = False
        self._output = self._run()
        if not stdin:
            self._input_ended = True
            self._input.put_nowait(b"")

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._output

    async def _run(self) -> AsyncIterator[Chunk]:
        for step in self._steps:
            if isinstance(step, script.Say):
                yield Chunk(Stream.STDOUT if self._tty else step.stream, step.data)
            elif isinstance(step, script.Size):
                yield Chunk(Stream.STDOUT, b"%d %d\n" % self._size)
            elif isinstance(step, script.Sleep):
                await self._world.clock.sleep(min(step.seconds, 1e9))
            elif isinstance(step, script.Cat) and step.path:
                files = self._found.extra.files if self._found.extra is not None else {}
                if step.path not in files:
                    yield Chunk(Stream.STDERR, f"cat: can't open '{step.path}'\n".encode())
                    self._code = 1
                    return
                yield Chunk(Stream.STDOUT, files[step.path][0])
            elif isinstance(step, script.Cat):
                while data := await self._input.get():
                    yield Chunk(Stream.STDOUT, data)
            elif isinstance(step, script.Exit):
                self._code = step.code
                return
            else:
                yield Chunk(Stream.STDERR, f"exec: {step.program!r}: executable file not found in $PATH\n".encode())
                self._code = 127
        self._code = self._code or 0

    async def write(self, data: bytes) -> None:
        if data and not self._input_ended and self._code is None:
            await self._input.put(data)

    async def close_input(self) -> None:
        if not self._input_ended:
            self._input_ended = True
            await self._input.put(b"")

    async def resize(self, height: int, width: int) -> None:
        self._size = (height, width)

    async def exit_code(self) -> int:
        if self._code is None:
            async for _ in self._output:
                pass
        return self._code or 0

    async def close(self) -> None:
        await self.close_input()
        if self._code is None:
            self._code = 137
