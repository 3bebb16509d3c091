"""Execute, logs, files, networks and raw calls through a core, on real Docker and on the fake engine."""

from __future__ import annotations

import asyncio
import io
import json
import resource
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eru.core.app import Core
from eru.core.ops.execute import ExecRequest, Output, execute
from eru.core.ops.files import CopyPiece, FileChunk, copy, send, send_large
from eru.core.ops.logs import LogLine, LogRequest, app_logs, log_stream
from eru.core.ops.networks import connect_network, list_networks
from eru.core.ops.raw import raw_engine
from eru.engine.contract import Stream
from eru.model.deploy import FileToSend
from eru.model.errors import InvalidInput, NotFound, NotSupported, Refused
from support.docker import limits_here
from support.inside import NODE, POD, core_with_node, run

pytestmark = pytest.mark.docker

SERVICE = ["sleep", "1000"]


@pytest.fixture
async def core(docker_endpoint: str) -> AsyncIterator[Core]:
    async with core_with_node(docker_endpoint, limits_here()) as core:
        yield core


@pytest.fixture
async def fake_core() -> AsyncIterator[Core]:
    async with core_with_node("fake://inside") as core:
        yield core


async def messages(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def executed(core: Core, id: str, *commands: str, inputs: AsyncIterator[bytes] | None = None) -> list[Output]:
    request = ExecRequest(id=id, commands=list(commands), interactive=inputs is not None)
    return [output async for output in execute(core, request, inputs or messages())]


async def test_exec_gives_lines_and_the_exit_code(core: Core) -> None:
    [id] = await run(core, SERVICE)
    outputs = await executed(core, id, "sh", "-c", "echo one; echo two; printf tail; exit 3")
    assert [output.data for output in outputs] == [b"one\n", b"two\n", b"tail", b"[exitcode] 3"]
    assert outputs[-1].exit_code == 3
    errors = await executed(core, id, "sh", "-c", "echo bad >&2")
    assert [(output.stream, output.data) for output in errors[:1]] == [(Stream.STDERR, b"bad\n")]


async def test_exec_keeps_twenty_thousand_lines_and_a_long_one(core: Core) -> None:
    [id] = await run(core, SERVICE)
    outputs = await executed(core, id, "sh", "-c", "seq 1 20000; head -c 300000 /dev/zero | tr '\\0' x; echo")
    lines = b"".join(output.data for output in outputs[:-1]).split(b"\n")
    assert lines[:20000] == [b"%d" % number for number in range(1, 20001)]
    assert lines[20000] == b"x" * 300000
    assert len(outputs) == 20002


async def test_piped_input_comes_back_unchanged(core: Core) -> None:
    [id] = await run(core, SERVICE)
    data = b"\x1d\x80\x03\x04\r\n" + bytes(range(256)) * 4000
    pieces = [data[:1], data[1:2], *(data[at : at + 30_000] for at in range(2, len(data), 30_000))]
    request = ExecRequest(id=id, commands=["cat"], interactive=True, tty=False)
    outputs = [output async for output in execute(core, request, messages(*pieces))]
    assert b"".join(output.data for output in outputs[:-1]) == data
    assert outputs[-1].exit_code == 0


async def test_interactive_exec_reads_input_size_and_end(core: Core) -> None:
    [id] = await run(core, SERVICE)
    size = b"\x80" + json.dumps({"Row": 41, "Col": 121}).encode()
    script = 'until [ "$(stty size)" = "41 121" ]; do sleep 0.1; done; stty size; read word; echo got $word'
    outputs = await executed(core, id, "sh", "-c", script, inputs=messages(size, b"hello\n"))
    text = b"".join(output.data for output in outputs)
    assert b"41 121" in text
    assert b"got hello" in text
    assert outputs[-1].data == b"[exitcode] 0"
    assert len(outputs) < 20, "output comes in chunks, not byte by byte"


async def test_exec_failures_are_told_as_output(core: Core) -> None:
    [missing] = await executed(core, "f" * 64, "true")
    assert b"does not exist" in missing.data
    assert missing.exit_code is None
    [id] = await run(core, SERVICE)
    unknown = await executed(core, id, "no-such-program")
    assert b"no-such-program" in unknown[0].data
    assert unknown[-1].exit_code in (None, 126, 127)


async def test_a_client_that_leaves_ends_the_exec(core: Core) -> None:
    [id] = await run(core, SERVICE)
    outputs = execute(core, ExecRequest(id=id, commands=["yes"]), messages())
    async for output in outputs:
        assert output.data == b"y\n"
        break
    async with asyncio.timeout(60):
        await outputs.aclose()  # type: ignore[attr-defined]


async def test_logs_of_one_workload(core: Core) -> None:
    [id] = await run(core, ["sh", "-c", "echo one; echo two; sleep 1000"])
    lines: list[LogLine] = []
    async with asyncio.timeout(60):
        async for line in log_stream(core, id, LogRequest(follow=True)):
            lines.append(line)
            if len(lines) == 2:
                break
    assert [line.data for line in lines] == [b"one\n", b"two\n"]
    assert [line.data async for line in log_stream(core, id, LogRequest(tail="1"))] == [b"two\n"]
    assert len([line async for line in log_stream(core, id, LogRequest(tail="-1"))]) == 2, "all, as for Docker"
    [wrong] = [line async for line in log_stream(core, id, LogRequest(tail="some"))]
    assert "tail 'some'" in wrong.error
    [missing] = [line async for line in log_stream(core, "e" * 64, LogRequest())]
    assert "does not exist" in missing.error


async def test_a_followed_log_ends_when_the_core_drains(core: Core) -> None:
    [id] = await run(core, ["sh", "-c", "echo one; sleep 1000"])
    came = []
    async with asyncio.timeout(60):
        async for line in log_stream(core, id, LogRequest(follow=True)):
            came.append(line.data)
            await core.drain(0)
    assert came == [b"one\n"]


async def test_logs_of_an_app_are_one_ordered_stream_that_goes_on_without_gap(core: Core) -> None:
    script = "for i in 1 2 3 4 5; do echo $HOSTNAME $i; sleep 0.05; done; sleep 1000"
    ids = await run(core, ["sh", "-c", script], count=3, app="insideapp")
    lines: list[LogLine] = []
    async with asyncio.timeout(60):
        while len(lines) < 15:
            lines = [line async for line in app_logs(core, "insideapp", "main", [], LogRequest())]
    assert [line.time_ns for line in lines] == sorted(line.time_ns for line in lines)
    assert {line.id for line in lines} == set(ids)
    assert len(lines) == 15
    assert {line.nodename for line in lines} == {NODE}
    cut = lines[6].time_ns + 1
    since = f"{cut // 10**9}.{cut % 10**9:09d}"
    rest = [line async for line in app_logs(core, "insideapp", "", [], LogRequest(since=since))]
    assert [(line.id, line.data) for line in rest] == [(line.id, line.data) for line in lines[7:]]
    with pytest.raises(NotFound, match="has no workloads"):
        async for _ in app_logs(core, "nobody", "", [], LogRequest()):
            pass


async def test_new_instances_join_a_followed_app(core: Core) -> None:
    commands = ["sh", "-c", "echo up; sleep 1000"]
    first = await run(core, commands, app="insidejoin")
    seen: list[str] = []
    async with asyncio.timeout(60):
        async for line in app_logs(core, "insidejoin", "main", [], LogRequest(follow=True)):
            seen.append(line.id)
            if len(seen) == 1:
                second = await run(core, commands, app="insidejoin")
            if len(seen) == 2:
                break
    assert seen == [*first, *second]


async def test_files_go_out_with_names_and_whole_directories(core: Core) -> None:
    [id] = await run(core, SERVICE)
    files = [FileToSend(path="/data/a.txt", content=b"A" * 200_000, mode=0o600, uid=3, gid=4)]
    files.append(FileToSend(path="/data/sub/empty", content=b"", mode=0))
    sent = [result async for result in send(core, [id, "d" * 64], files)]
    assert sorted((result.id == id, result.path, bool(result.error)) for result in sent) == [
        (False, "/data/a.txt", True),
        (False, "/data/sub/empty", True),
        (True, "/data/a.txt", False),
        (True, "/data/sub/empty", False),
    ]
    pieces = [piece async for piece in copy(core, {id: ["/data/a.txt", "/data", "/none"]})]
    [missing] = [piece for piece in pieces if piece.path == "/none"]
    assert missing.error
    assert {piece.name for piece in pieces if not piece.error} == {"a.txt", "data"}
    entries = unpacked(pieces, "/data/a.txt")
    assert [(entry.name, entry.mode & 0o7777, entry.uid, entry.gid, entry.size) for entry in entries] == [
        ("a.txt", 0o600, 3, 4, 200_000)
    ]
    assert sorted(entry.name for entry in unpacked(pieces, "/data")) == [
        "data",
        "data/a.txt",
        "data/sub",
        "data/sub/empty",
    ]
    with pytest.raises(InvalidInput):
        async for _ in send(core, [], files):
            pass


def unpacked(pieces: list[CopyPiece], path: str) -> list[tarfile.TarInfo]:
    data = b"".join(piece.data for piece in pieces if piece.path == path)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getmembers()


async def test_a_large_file_reaches_all_and_a_missing_workload_hinders_nobody(core: Core) -> None:
    first, second = await run(core, SERVICE, count=2)
    gone = "c" * 64
    size, part = 32 << 20, bytes(1 << 18)

    async def chunks() -> AsyncIterator[FileChunk]:
        for _ in range(size // len(part)):
            yield FileChunk(ids=[first, gone, second], path="/tmp/big", size=size, data=part)
        yield FileChunk(ids=[first], path="/tmp/none", size=0, data=b"", mode=0o640)
        yield FileChunk(ids=[first], path="/tmp/short", size=10, data=b"12345")

    async with asyncio.timeout(60):
        results = {(result.id, result.path): result.error async for result in send_large(core, chunks())}
    assert {key for key, error in results.items() if not error} == {
        (first, "/tmp/big"),
        (second, "/tmp/big"),
        (first, "/tmp/none"),
    }
    assert "does not exist" in results[gone, "/tmp/big"]
    assert "only 5 came" in results[first, "/tmp/short"]
    for id in (first, second):
        outputs = await executed(core, id, "sh", "-c", "stat -c '%s %a' /tmp/big")
        assert outputs[0].data == f"{size} 755\n".encode()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_a_hundred_megabytes_go_in_and_out_in_constant_memory(core: Core) -> None:
    [id] = await run(core, SERVICE)
    part, parts = bytes(1 << 16), 1600
    before = resident_bytes()
    most = 0

    async def chunks() -> AsyncIterator[FileChunk]:
        nonlocal most
        for _ in range(parts):
            most = max(most, resident_bytes())
            yield FileChunk(ids=[id], path="/tmp/huge", size=len(part) * parts, data=part)

    assert [result.error async for result in send_large(core, chunks())] == [""]
    size = 0
    async for piece in copy(core, {id: ["/tmp/huge"]}):
        size += len(piece.data)
        most = max(most, resident_bytes())
    assert size > len(part) * parts
    assert most - before < 40 << 20


async def test_files_of_one_workload_follow_each_other(core: Core) -> None:
    [id] = await run(core, SERVICE)

    async def chunks(*wanted: tuple[str, int]) -> AsyncIterator[FileChunk]:
        for path, size in wanted:
            yield FileChunk(ids=[id], path=path, size=size, data=b"1")

    async def results(*wanted: tuple[str, int]) -> dict[str, str]:
        async with asyncio.timeout(60):
            return {result.path: result.error async for result in send_large(core, chunks(*wanted))}

    assert await results(("/tmp/a", 2), ("/tmp/a", 2), ("/tmp/b", 1)) == {"/tmp/a": "", "/tmp/b": ""}
    mixed = await results(("/tmp/c", 2), ("/tmp/d", 1), ("/tmp/c", 2))
    assert mixed["/tmp/c"] == ""
    assert "one after the other" in mixed["/tmp/d"]


async def test_a_client_that_leaves_in_the_middle_of_a_file_leaves_nothing_behind(core: Core) -> None:
    [id] = await run(core, SERVICE)
    tasks = len(asyncio.all_tasks())

    async def chunks() -> AsyncIterator[FileChunk]:
        yield FileChunk(ids=[id], path="/tmp/first", size=1, data=b"1")
        for _ in range(100):
            yield FileChunk(ids=[id], path="/tmp/part", size=1 << 30, data=bytes(1 << 16))
        await asyncio.Event().wait()

    results = send_large(core, chunks())
    assert (await anext(results)).path == "/tmp/first"
    async with asyncio.timeout(60):
        await results.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.01)
    assert [result.error async for result in send(core, [id], [FileToSend(path="/tmp/next", content=b"1")])] == [""]


async def test_wrong_chunks_are_refused(core: Core) -> None:
    for chunk in (
        FileChunk(ids=[], path="/x", size=1, data=b"1"),
        FileChunk(ids=["a"], path="/x", size=1, data=b""),
        FileChunk(ids=["a"], path="", size=1, data=b"1"),
        FileChunk(ids=["a"], path="/x", size=-1, data=b"1"),
    ):

        async def chunks(chunk: FileChunk = chunk) -> AsyncIterator[FileChunk]:
            yield chunk

        with pytest.raises(InvalidInput):
            async for _ in send_large(core, chunks()):
                pass


async def test_networks_and_raw_calls(core: Core) -> None:
    assert "host" in [network.name for network in await list_networks(core, POD, "")]
    with pytest.raises(NotFound):
        await list_networks(core, "nopod", "")
    [id] = await run(core, SERVICE)
    with pytest.raises(InvalidInput, match="IPv4"):
        await connect_network(core, "bridge", id, "1.2.3", "")
    found = json.loads(await raw_engine(core, id, "inspect", b"", ignore_lock=False))
    assert found["Id"] == id
    with pytest.raises(InvalidInput, match="op is empty"):
        await raw_engine(core, id, "", b"", ignore_lock=False)


async def test_an_engine_without_raw_calls_says_so(fake_core: Core) -> None:
    [id] = await run(fake_core, SERVICE)
    with pytest.raises(NotSupported, match="raw calls"):
        await raw_engine(fake_core, id, "inspect", b"", ignore_lock=True)
    outputs = await executed(fake_core, id, "sh", "-c", "echo fake; exit 2")
    assert [output.data for output in outputs] == [b"fake\n", b"[exitcode] 2"]


async def test_a_pod_without_nodes_that_are_up_is_told(fake_core: Core) -> None:
    with pytest.raises((Refused, NotFound)):
        await list_networks(fake_core, "other", "")
