"""Looking inside workloads on Docker: figures, logs, attach, exec, files."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import AsyncIterator, Sequence
from typing import Any

from eru.engine.contract import Chunk, Figures, Session
from eru.engine.docker.calls import Calls
from eru.engine.docker.figures import figures
from eru.engine.docker.frames import lines, pieces
from eru.engine.docker.hijack import hijack
from eru.engine.docker.session import AttachedSession, ExecSession
from eru.engine.times import point_ns, unix_text
from eru.model.deploy import FileToSend
from eru.model.errors import EngineMissing, InvalidInput

TAR_BLOCK = 512
FILE_MODE_MASK = 0o7777


class Inside(Calls):
    """Figures, logs, attach, exec, files."""

    async def figures(self, id: str) -> Figures:
        query = {"stream": "0", "one-shot": "1"}
        return figures(await self._read(f"/containers/{id}/stats", **query), self._world.clock.now_ns())

    async def logs(
        self,
        id: str,
        *,
        tail: str = "all",
        since: str = "",
        until: str = "",
        follow: bool = False,
        timestamps: bool = False,
    ) -> AsyncIterator[Chunk]:
        tty = await self._tty(id)
        query: dict[str, Any] = {
            "stdout": 1,
            "stderr": 1,
            "follow": int(follow),
            "tail": tail or "all",
            "timestamps": int(timestamps),
        }
        now_ns = self._world.clock.now_ns()
        query |= {
            name: unix_text(point_ns(text, now_ns)) for name, text in (("since", since), ("until", until)) if text
        }
        async with self._http.stream("GET", f"/containers/{id}/logs", query=query) as chunks:
            async for line in lines(pieces(chunks, tty, whole=timestamps), timestamps, tty):
                yield line

    async def attach(self, id: str, *, stdin: bool = False, past: bool = True) -> Session:
        tty = await self._tty(id)
        query = {"stream": "1", "stdout": "1", "stderr": "1", "logs": str(int(past)), "stdin": str(int(stdin))}
        pipe, first = await hijack(self._http, f"/containers/{id}/attach", query, None)
        return AttachedSession(self._http, self._world, id, pipe, first, tty)

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
    ) -> Session:
        if not commands:
            raise InvalidInput("exec needs a command")
        body = {
            "AttachStdin": stdin,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": tty,
            "Cmd": list(commands),
            "Env": list(env),
            "Privileged": privileged,
            "User": user,
            "WorkingDir": dir,
        }
        answer = await self._change("POST", f"/containers/{id}/exec", body=body)
        exec_id = str(answer["Id"])
        pipe, first = await hijack(self._http, f"/exec/{exec_id}/start", {}, {"Detach": False, "Tty": tty})
        return ExecSession(self._http, self._world, exec_id, pipe, first, tty)

    async def _tty(self, id: str) -> bool:
        found = await self._read(f"/containers/{id}/json")
        return bool(found["Config"].get("Tty"))

    # Files.

    async def send_file(self, id: str, file: FileToSend) -> None:
        async def content() -> AsyncIterator[bytes]:
            yield file.content

        await self.send_stream(id, file.path, len(file.content), file.mode, file.uid, file.gid, content())

    async def send_stream(
        self, id: str, path: str, size: int, mode: int, uid: int, gid: int, chunks: AsyncIterator[bytes]
    ) -> None:
        path = posixpath.normpath("/" + path.lstrip("/"))
        directory, name = posixpath.split(path)
        if not name:
            raise InvalidInput(f"file path {path!r} has no file name")
        # Into its directory when that is there (which may be a volume); else from the root, which makes parents.
        if not await self._is_there(id, directory):
            directory, name = "/", path.lstrip("/")
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.uid, header.gid = size, mode & FILE_MODE_MASK, uid, gid
        header.mtime = int(self._world.clock.now())
        await self._http.call(
            "PUT",
            f"/containers/{id}/archive",
            query={"path": directory},
            headers={"Content-Type": "application/x-tar"},
            data=_tar(header, path, chunks),
            effect=True,
            timeout_s=None,
        )

    async def _is_there(self, id: str, path: str) -> bool:
        try:
            await self._http.call("HEAD", f"/containers/{id}/archive", query={"path": path})
        except EngineMissing:
            return False
        return True

    async def read_archive(self, id: str, path: str) -> AsyncIterator[bytes]:
        idle_s = self._settings.change_timeout_s
        async with self._http.stream("GET", f"/containers/{id}/archive", query={"path": path}, idle_s=idle_s) as chunks:
            async for chunk in chunks:
                yield chunk


async def _tar(header: tarfile.TarInfo, path: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A tar with one file, as it comes. Raises InvalidInput when it has not the announced size."""
    yield header.tobuf(tarfile.PAX_FORMAT)
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > header.size:
            raise InvalidInput(f"file {path!r} was announced with {header.size} bytes, more came")
        yield chunk
    if size < header.size:
        raise InvalidInput(f"file {path!r} was announced with {header.size} bytes, only {size} came")
    yield b"\0" * (-size % TAR_BLOCK + 2 * TAR_BLOCK)
