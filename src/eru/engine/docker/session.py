"""Running execs and attaches on Docker."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

from eru.engine.contract import Chunk, Stream
from eru.engine.docker.frames import Demux
from eru.engine.docker.hijack import Pipe
from eru.engine.docker.http import DockerHttp
from eru.lib.world import World
from eru.model.errors import EngineMissing, EngineRefused, EngineUnreachable

TERMINAL_END = b"\x04\x04"  # the first ends a line begun, the second the input
RESIZE_TRIES_MAX = 10  # 0.05 s apart
EXIT_TRIES_MAX = 50  # 0.1 s apart: Docker may note the exit a moment after the output ended


class PipeSession:
    """Output and input over a hijacked connection."""

    def __init__(self, http: DockerHttp, world: World, pipe: Pipe, first: bytes, tty: bool) -> None:
        self._http, self._world, self._pipe, self._first, self._tty = http, world, pipe, first, tty
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        demux = Demux()
        data, self._first = self._first, b""
        while not self._ended:
            if data and self._tty:
                yield Chunk(Stream.STDOUT, data)
            elif data:
                for stream, piece in demux.feed(data):
                    yield Chunk(stream, piece)
            try:
                data = await self._pipe.read()
            except (OSError, ssl.SSLError) as error:
                raise EngineUnreachable(f"Docker at {self._http.address.place} broke the connection") from error
            self._ended = not data

    async def write(self, data: bytes) -> None:
        """Input after the program's end is dropped, as a shell would."""
        try:
            await self._pipe.write(data)
        except (OSError, ssl.SSLError):
            return

    async def close_input(self) -> None:
        """A terminal gets its own sign for it: closing the connection's half would make Docker drop the output."""
        try:
            if self._tty:
                await self._pipe.write(TERMINAL_END)
            else:
                await self._pipe.close_input()
        except (OSError, ssl.SSLError):
            return

    async def close(self) -> None:
        self._ended = True
        await self._pipe.close()

    async def _resize(self, path: str, height: int, width: int) -> None:
        """The window may change before the program has begun, or after it ended; neither is a failure."""
        for _ in range(RESIZE_TRIES_MAX):
            try:
                await self._http.call("POST", path, query={"h": height, "w": width})
            except (EngineRefused, EngineMissing):
                await self._world.clock.sleep(0.05)
            else:
                return

    async def _drain(self) -> None:
        async for _ in self:
            pass


class AttachedSession(PipeSession):
    """Attached to a workload's main program."""

    def __init__(self, http: DockerHttp, world: World, id: str, pipe: Pipe, first: bytes, tty: bool) -> None:
        super().__init__(http, world, pipe, first, tty)
        self._id = id

    async def resize(self, height: int, width: int) -> None:
        await self._resize(f"/containers/{self._id}/resize", height, width)

    async def exit_code(self) -> int:
        await self._drain()
        found = await self._http.call("GET", f"/containers/{self._id}/json")
        return int(found["State"].get("ExitCode") or 0)


class ExecSession(PipeSession):
    """A program run beside the main one."""

    def __init__(self, http: DockerHttp, world: World, id: str, pipe: Pipe, first: bytes, tty: bool) -> None:
        super().__init__(http, world, pipe, first, tty)
        self._id = id

    async def resize(self, height: int, width: int) -> None:
        await self._resize(f"/exec/{self._id}/resize", height, width)

    async def exit_code(self) -> int:
        await self._drain()
        for _ in range(EXIT_TRIES_MAX):
            found = await self._http.call("GET", f"/exec/{self._id}/json")
            if not found.get("Running"):
                return int(found.get("ExitCode") or 0)
            await self._world.clock.sleep(0.1)
        raise EngineUnreachable(f"Docker at {self._http.address.place} does not tell how the program ended")
