"""Files into and out of workloads, in constant memory whatever their size."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from eru.core.app import Core
from eru.core.ops.reach import reach
from eru.core.ops.streams import STREAM_ITEMS_MAX, closing, until_drained
from eru.engine.contract import Capability
from eru.lib.tasks import TaskOwner, task_owner
from eru.model.deploy import FileToSend
from eru.model.errors import EruError, Expired, InvalidInput

PARALLEL_MAX = 16  # workloads copied from or sent to at a time
COPY_CHUNK_BYTES = 64 * 1024
QUEUE_CHUNKS_MAX = 32  # of one file, between a client and an engine
TARGETS_MAX = 10_000  # files times workloads of one request
CHUNK_WAIT_S = 60.0  # an engine cannot do anything else with a workload while it waits for a file
DEFAULT_MODE = 0o755


class CopyPiece(msgspec.Struct, frozen=True, kw_only=True):
    """Part of the tar of one path, or why it cannot be had. `name`: the path's last part."""

    id: str
    path: str
    name: str = ""
    data: bytes = b""
    error: str = ""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """How sending one file to one workload ended; no `error`: it is there."""

    id: str
    path: str
    error: str = ""


class FileChunk(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a large file for some workloads. The first one for a path fixes size, owner and mode."""

    ids: list[str]
    path: str
    size: int
    data: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0


def check_path(path: str) -> str:
    """An absolute path. Raises InvalidInput."""
    if not path or "\0" in path:
        raise InvalidInput(f"file path {path[:64]!r} must be a path inside the workload")
    return posixpath.normpath("/" + path.lstrip("/"))


# Out.


async def copy(core: Core, targets: Mapping[str, Sequence[str]]) -> AsyncIterator[CopyPiece]:
    """Each path of each workload as a tar stream, in pieces; pieces of one path follow each other.

    Workloads are read in parallel. A path that cannot be read is one piece
    with `error`. Raises InvalidInput when nothing is asked for.
    """
    total = sum(len(paths) for paths in targets.values())
    if not 0 < total <= TARGETS_MAX:
        raise InvalidInput(f"{total} paths are to be copied, expected 1 to {TARGETS_MAX}")
    async with closing(until_drained(core, _copy_all(core, targets))) as pieces:
        async for piece in pieces:
            yield piece


async def _copy_all(core: Core, targets: Mapping[str, Sequence[str]]) -> AsyncIterator[CopyPiece]:
    queue: asyncio.Queue[CopyPiece | None] = asyncio.Queue(STREAM_ITEMS_MAX)
    gate, turn = asyncio.Semaphore(PARALLEL_MAX), asyncio.Lock()

    async def one_workload(id: str, paths: Sequence[str]) -> None:
        async with gate:
            for path in paths:
                await _copy_one(core, id, path, queue, turn)
        await queue.put(None)

    async with task_owner("copy") as tasks:
        for id, paths in targets.items():
            tasks.start(f"from {id}", one_workload(id, paths))
        left = len(targets)
        while left:
            piece = await queue.get()
            if piece is None:
                left -= 1
            else:
                yield piece


async def _copy_one(core: Core, id: str, path: str, queue: asyncio.Queue[CopyPiece | None], turn: asyncio.Lock) -> None:
    """The turn is taken when the engine has begun to answer, so that slow engines do not add up."""
    taken = False
    try:
        wanted = check_path(path)
        found = await reach(core, id, Capability.FILES)
        name = posixpath.basename(wanted) or "/"
        async for data in found.engine.read_archive(found.workload.id, wanted):
            if not taken:
                await turn.acquire()
                taken = True
            for start in range(0, len(data), COPY_CHUNK_BYTES):
                part = data[start : start + COPY_CHUNK_BYTES]
                await queue.put(CopyPiece(id=id, path=path, name=name, data=part))
    except EruError as error:
        await queue.put(CopyPiece(id=id, path=path, error=str(error)))
    finally:
        if taken:
            turn.release()


# In.


async def send(core: Core, ids: Sequence[str], files: Sequence[FileToSend]) -> AsyncIterator[Sent]:
    """Every file to every workload; one result each, also for empty files. Raises InvalidInput."""
    total = len(ids) * len(files)
    if not 0 < total <= TARGETS_MAX:
        raise InvalidInput(f"{len(files)} files for {len(ids)} workloads, expected at least one of each")
    results: asyncio.Queue[Sent] = asyncio.Queue(STREAM_ITEMS_MAX)
    gate = asyncio.Semaphore(PARALLEL_MAX)

    async def one_workload(id: str) -> None:
        async with gate:
            for file in files:
                await results.put(await _send_one(core, id, file))

    async with task_owner("send") as tasks:
        for id in ids:
            tasks.start(f"to {id}", one_workload(id))
        for _ in range(total):
            yield await results.get()


async def _send_one(core: Core, id: str, file: FileToSend) -> Sent:
    try:
        path = check_path(file.path)
        found = await reach(core, id, Capability.FILES)
        await found.engine.send_file(found.workload.id, msgspec.structs.replace(file, path=path))
    except EruError as error:
        return Sent(id=id, path=file.path, error=str(error))
    return Sent(id=id, path=file.path)


@dataclass(slots=True)
class _Sender:
    """One file on its way to one workload. `ended`: what still comes is dropped, so that nobody waits."""

    chunks: asyncio.Queue[bytes | None]
    size: int
    came: int = 0
    ended: bool = False
    task: asyncio.Task[None] | None = None


async def send_large(core: Core, incoming: AsyncIterator[FileChunk]) -> AsyncIterator[Sent]:
    """A stream of chunks to the workloads they name; one result per file and workload, as each ends.

    The slowest workload sets the pace: its client is read no further while
    its queue is full. Files for one workload are sent one after the other, as
    engines lock a workload while they write into it. Raises InvalidInput for a
    chunk that cannot be used.
    """
    results: asyncio.Queue[Sent | EruError | None] = asyncio.Queue(STREAM_ITEMS_MAX)
    async with task_owner("send large") as tasks:
        tasks.start("read", _LargeFiles(core, results, tasks).read(incoming))
        while (result := await results.get()) is not None:
            if isinstance(result, EruError):
                raise result
            yield result


class _LargeFiles:
    """Deals the chunks of one client stream out to senders."""

    def __init__(self, core: Core, results: asyncio.Queue[Sent | EruError | None], tasks: TaskOwner) -> None:
        self._core, self._results, self._tasks = core, results, tasks
        self._senders: dict[tuple[str, str], _Sender] = {}
        self._newest: dict[str, _Sender] = {}  # by workload

    async def read(self, incoming: AsyncIterator[FileChunk]) -> None:
        """Until the stream and all its files have ended; then None goes to the results, or the error."""
        try:
            async for chunk in incoming:
                _check_chunk(chunk)
                for id in dict.fromkeys(chunk.ids):
                    await self._deal(id, chunk)
            for sender in self._senders.values():
                if not sender.ended:
                    await sender.chunks.put(None)
            running = {sender.task for sender in self._senders.values() if sender.task is not None}
            if running:
                await asyncio.wait(running)
        except EruError as error:
            await self._results.put(error)
        else:
            await self._results.put(None)

    async def _deal(self, id: str, chunk: FileChunk) -> None:
        sender = self._senders.get((id, chunk.path))
        if sender is None:
            if len(self._senders) >= TARGETS_MAX:
                raise InvalidInput(f"more than {TARGETS_MAX} files are sent in one stream")
            sender = self._senders[id, chunk.path] = await self._begin(id, chunk)
        sender.came += len(chunk.data)
        if not sender.ended and chunk.data:
            await sender.chunks.put(chunk.data)

    async def _begin(self, id: str, chunk: FileChunk) -> _Sender:
        sender = _Sender(asyncio.Queue(QUEUE_CHUNKS_MAX), chunk.size)
        before = self._newest.get(id)
        if before is not None and not before.ended and before.came < before.size:
            sender.ended = True
            error = "the file before it is not complete yet, send files of one workload one after the other"
            await self._results.put(Sent(id=id, path=chunk.path, error=error))
            return sender
        self._newest[id] = sender
        sender.task = self._tasks.start(f"to {id}", self._send(id, chunk, sender, before))
        return sender

    async def _send(self, id: str, first: FileChunk, sender: _Sender, before: _Sender | None) -> None:
        if before is not None and before.task is not None:
            await asyncio.wait({before.task})
        mode, uid, gid = first.mode, first.uid, first.gid
        if not (mode or uid or gid):
            mode = DEFAULT_MODE
        result = Sent(id=id, path=first.path)
        try:
            found = await reach(self._core, id, Capability.FILES)
            await found.engine.send_stream(
                found.workload.id, check_path(first.path), sender.size, mode, uid, gid, _content(sender)
            )
        except EruError as error:
            result = Sent(id=id, path=first.path, error=str(error))
        sender.ended = True  # from now on nothing is waited for
        while not sender.chunks.empty():
            sender.chunks.get_nowait()
        await self._results.put(result)


async def _content(sender: _Sender) -> AsyncIterator[bytes]:
    left = sender.size
    while left > 0:
        try:
            async with asyncio.timeout(CHUNK_WAIT_S):
                data = await sender.chunks.get()
        except TimeoutError:
            raise Expired(f"no data came from the client for {CHUNK_WAIT_S:g} s") from None
        if data is None:
            return
        left -= len(data)
        yield data


def _check_chunk(chunk: FileChunk) -> None:
    if not chunk.ids or not all(chunk.ids):
        raise InvalidInput("a file chunk names no workload id")
    if chunk.size < 0:
        raise InvalidInput(f"file size {chunk.size} is negative")
    if not chunk.data and chunk.size > 0:
        raise InvalidInput(f"a chunk of file {chunk.path[:64]!r} is empty")
    check_path(chunk.path)
