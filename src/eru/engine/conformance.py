"""What every engine must do, as checks that anybody can run against an engine of theirs.

    bench = Bench(engine, image="busybox", network="none")
    for check in CHECKS:
        await check(bench)

A check raises AssertionError with what was wrong, and cleans up after itself.
The image needs busybox's sh, cat, echo, sleep and stty.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from eru.engine.contract import Capability, Chunk, CreateSpec, Engine, EngineEvent, Stream
from eru.lib.tasks import task_owner
from eru.lib.world import World
from eru.model.deploy import FileToSend
from eru.model.errors import EngineError, EngineMissing, EngineRefused, InvalidInput

CHECK_TIMEOUT_S = 240.0
ECHO_S = 3.0  # for the second copy of what is typed on a terminal, where there is one
STREAM_CHUNK_BYTES = 64 * 1024
STREAM_CHUNKS = 128
LABEL = "eru.conformance"
SLEEP = ("sleep", "1000")


@dataclass(frozen=True, slots=True)
class Bench:
    """An engine under test. `network`: one that needs no set-up; names start with `prefix`."""

    world: World
    engine: Engine
    image: str
    network: str = "none"
    prefix: str = "conformance"

    def spec(self, commands: tuple[str, ...] = SLEEP, **more: Any) -> CreateSpec:
        """A workload with a name of its own."""
        labels = {LABEL: self.prefix, **more.pop("labels", {})}
        return CreateSpec(
            name=f"{self.prefix}_check_{self.world.letters(6)}",
            image=self.image,
            commands=list(commands),
            networks={self.network: ""},
            labels=labels,
            **more,
        )

    @asynccontextmanager
    async def workload(
        self, commands: tuple[str, ...] = SLEEP, *, start: bool = True, **more: Any
    ) -> AsyncIterator[str]:
        """Created, started, and removed at the end."""
        created = await self.engine.create(self.spec(commands, **more))
        try:
            if start:
                await self.engine.start(created.id)
            yield created.id
        finally:
            with suppress(EngineMissing):
                await self.engine.remove(created.id, force=True)

    async def raises(self, kind: type[Exception] | tuple[type[Exception], ...], call: Awaitable[object]) -> str:
        """The message of the error that `call` must raise."""
        message = ""
        try:
            result = await call
        except kind as error:
            message = str(error)
        else:
            raise AssertionError(f"expected {kind}, got {result!r}")
        assert message, "the error says nothing"
        return message


Check = Callable[[Bench], Awaitable[None]]
CHECKS: list[Check] = []


def _check(check: Check) -> Check:
    async def bounded(bench: Bench) -> None:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check(bench)

    bounded.__name__, bounded.__doc__ = check.__name__, check.__doc__
    CHECKS.append(bounded)
    return bounded


async def _output(chunks: AsyncIterator[Chunk]) -> tuple[bytes, bytes]:
    out: list[bytes] = []
    err: list[bytes] = []
    async for chunk in chunks:
        (err if chunk.stream is Stream.STDERR else out).append(chunk.data)
    return b"".join(out), b"".join(err)


@_check
async def tells_what_it_is(bench: Bench) -> None:
    await bench.engine.ping()
    info = await bench.engine.info()
    assert info.type == bench.engine.type
    assert info.ncpu >= 1
    assert info.memory > 0


@_check
async def a_workload_lives_from_create_to_remove(bench: Bench) -> None:
    engine = bench.engine
    spec = bench.spec(env=["A=1", "NOEQUALS"], labels={"x": "y"}, user="0")
    created = await engine.create(spec)
    before = await engine.inspect(created.id)
    assert (before.id, before.name, before.running) == (created.id, spec.name, False)
    await engine.start(created.id)
    await engine.start(created.id)
    running = await engine.inspect(spec.name)
    assert (running.id, running.running, running.image, running.user) == (created.id, True, bench.image, "0")
    assert {"A=1", "NOEQUALS"} <= set(running.env)
    assert running.labels["x"] == "y"
    assert running.started_at > 0
    await bench.raises(EngineRefused, engine.remove(created.id))
    await engine.stop(created.id, 0)
    await engine.stop(created.id, 0)
    assert not (await engine.inspect(created.id)).running
    await engine.remove(created.id)
    await bench.raises(EngineMissing, engine.inspect(created.id))


@_check
async def a_name_is_given_once(bench: Bench) -> None:
    spec = bench.spec()
    created = await bench.engine.create(spec)
    try:
        message = await bench.raises(EngineRefused, bench.engine.create(spec))
        assert spec.name in message
    finally:
        await bench.engine.remove(created.id, force=True)


@_check
async def what_is_missing_is_said_to_be_missing(bench: Bench) -> None:
    engine, id = bench.engine, "f" * 64
    for call in (engine.inspect(id), engine.start(id), engine.stop(id), engine.remove(id, force=True), engine.wait(id)):
        await bench.raises(EngineMissing, call)

    async def read_logs() -> None:
        async for _ in engine.logs(id):
            pass

    await bench.raises(EngineMissing, read_logs())


@_check
async def finds_by_labels(bench: Bench) -> None:
    mark = bench.world.hex(8)
    async with (
        bench.workload(labels={"mark": mark}) as first,
        bench.workload(labels={"mark": mark, "more": "1"}, start=False) as second,
    ):
        found = {row.id: row for row in await bench.engine.find({"mark": mark, LABEL: ""})}
        assert set(found) == {first, second}
        assert found[first].running
        assert not found[second].running
        assert found[second].labels["more"] == "1"
        assert found[second].name.startswith(bench.prefix)
        assert [row.id for row in await bench.engine.find({"mark": mark}, running_only=True)] == [first]
        assert [row.id for row in await bench.engine.find({"mark": mark, "more": "1"})] == [second]
        assert await bench.engine.find({"mark": "other"}) == []


@_check
async def waits_for_the_exit_code(bench: Bench) -> None:
    async with bench.workload(("sh", "-c", "sleep 0.2; exit 7")) as id:
        assert await bench.engine.wait(id) == 7
        assert await bench.engine.wait(id) == 7
        assert (await bench.engine.inspect(id)).exit_code == 7


@_check
async def force_stops_at_once(bench: Bench) -> None:
    """`sleep` as the first process ignores the polite signal, so only force gives 137."""
    async with bench.workload() as id:
        await bench.engine.stop(id, 0)
        assert (await bench.engine.inspect(id)).exit_code == 137


@_check
async def logs_are_lines_of_two_streams(bench: Bench) -> None:
    script = "echo one; echo bad >&2; echo two; echo three"
    async with bench.workload(("sh", "-c", script)) as id:
        await bench.engine.wait(id)
        chunks = [chunk async for chunk in bench.engine.logs(id)]
        assert [chunk.data for chunk in chunks if chunk.stream is Stream.STDOUT] == [b"one\n", b"two\n", b"three\n"]
        assert [chunk.data for chunk in chunks if chunk.stream is Stream.STDERR] == [b"bad\n"]
        last = [chunk.data async for chunk in bench.engine.logs(id, tail="1")]
        assert len(last) == 1
        assert await _output(bench.engine.logs(id, since="4000000000")) == (b"", b"")
        stamped = [chunk async for chunk in bench.engine.logs(id, timestamps=True)]
        assert sorted(chunk.data for chunk in stamped) == sorted(chunk.data for chunk in chunks)
        assert all(chunk.time_ns > 10**18 for chunk in stamped)
        await bench.raises(InvalidInput, _output(bench.engine.logs(id, since="yesterday")))


@_check
async def followed_logs_end_with_the_workload(bench: Bench) -> None:
    async with bench.workload(("sh", "-c", "echo first; sleep 0.3; echo last")) as id:
        assert await _output(bench.engine.logs(id, follow=True)) == (b"first\nlast\n", b"")


@_check
async def a_terminal_has_one_stream(bench: Bench) -> None:
    async with bench.workload(("sh", "-c", "echo out; echo err >&2"), open_stdin=True) as id:
        await bench.engine.wait(id)
        out, err = await _output(bench.engine.logs(id))
        assert sorted(out.split()) == [b"err", b"out"]
        assert err == b""
        assert (await bench.engine.inspect(id)).tty


@_check
async def executes(bench: Bench) -> None:
    async with bench.workload(env=["A=1"]) as id:
        session = await bench.engine.exec(
            id, ["sh", "-c", "echo out; echo bad >&2; pwd; env; exit 3"], env=["B=2"], dir="/tmp"
        )
        out, err = await _output(session.__aiter__())
        words = out.decode().split()
        assert words[:2] == ["out", "/tmp"]
        assert {"A=1", "B=2"} <= set(words)
        assert err == b"bad\n"
        assert await session.exit_code() == 3
        await session.close()


@_check
async def executes_with_input_until_its_end(bench: Bench) -> None:
    async with bench.workload() as id:
        session = await bench.engine.exec(id, ["cat"], stdin=True)
        for word in (b"hel", b"lo\n"):
            await session.write(word)
        await session.close_input()
        assert await _output(session.__aiter__()) == (b"hello\n", b"")
        assert await session.exit_code() == 0
        await session.close()


@_check
async def the_input_of_a_terminal_ends_too(bench: Bench) -> None:
    for text in (b"hello\n", b"hello"):
        async with bench.workload() as id:
            session = await bench.engine.exec(id, ["sh", "-c", "cat; echo done"], tty=True, stdin=True)
            await session.write(text)
            await session.close_input()
            out, _ = await _output(session.__aiter__())
            assert b"hello" in out
            assert b"done" in out
            assert await session.exit_code() == 0
            await session.close()


@_check
async def executes_on_a_terminal_of_some_size(bench: Bench) -> None:
    async with bench.workload() as id:
        out = b""
        for wait_s in (0.5, 5, 30):  # longer where the size takes its time to get there
            session = await bench.engine.exec(id, ["sh", "-c", f"sleep {wait_s:g}; stty size"], tty=True, stdin=True)
            await session.resize(33, 99)
            out, _ = await _output(session.__aiter__())
            await session.close()
            if out.split() == [b"33", b"99"]:
                return
        raise AssertionError(f"the size on the terminal is {out!r}")


@_check
async def says_what_cannot_be_executed(bench: Bench) -> None:
    async def code_of(id: str) -> int:
        session = await bench.engine.exec(id, ["no-such-program"])
        await _output(session.__aiter__())
        return await session.exit_code()

    async with bench.workload() as id:
        message = ""
        try:
            code = await code_of(id)
        except EngineRefused as error:
            code, message = 127, str(error)
        assert code in (126, 127)
        assert not message or "no-such-program" in message
        await bench.engine.stop(id, 0)
        await bench.raises(EngineRefused, code_of(id))


@_check
async def attaches_with_input(bench: Bench) -> None:
    async with bench.workload(("cat",), open_stdin=True) as id:
        session = await bench.engine.attach(id, stdin=True)
        await session.write(b"hello\n")
        await session.write(b"\x04")
        out, _ = await _output(session.__aiter__())
        assert b"hello" in out
        assert await session.exit_code() == 0
        await session.close()


@_check
async def attaches_from_now_on(bench: Bench) -> None:
    async with bench.workload(("cat",), open_stdin=True) as id:
        first = await bench.engine.attach(id, stdin=True)
        await first.write(b"before\n")
        seen = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(ECHO_S):
                async for chunk in first:
                    seen += chunk.data
                    if seen.count(b"before") == 2:
                        break  # from the terminal, and from the program, which may be slow
        assert b"before" in seen
        await first.close()
        session = await bench.engine.attach(id, stdin=True, past=False)
        await session.write(b"after\n")
        await session.write(b"\x04")
        out, _ = await _output(session.__aiter__())
        assert b"after" in out
        assert b"before" not in out
        await session.close()


@_check
async def suspends_and_resumes(bench: Bench) -> None:
    async with bench.workload() as id:
        await bench.raises(EngineRefused, bench.engine.resume(id))
        await bench.engine.suspend(id)
        found = await bench.engine.inspect(id)
        assert (found.paused, found.running) == (True, True)
        await bench.engine.resume(id)
        assert not (await bench.engine.inspect(id)).paused
        await bench.engine.suspend(id)
        await bench.engine.stop(id, 0)
        assert not (await bench.engine.inspect(id)).running


@_check
async def updates_a_live_workload(bench: Bench) -> None:
    params = {"cpumem": {"cpu": 0.5, "cpu_map": {}, "memory": 32 << 20}}
    async with bench.workload(params=params) as id:
        for cpu, cores, memory in ((1.0, {}, 64 << 20), (1.0, {"0": 100}, 16 << 20), (0, {}, 0), (0.2, {}, 32 << 20)):
            await bench.engine.update(id, {"cpumem": {"cpu": cpu, "cpu_map": cores, "memory": memory}})
        assert (await bench.engine.inspect(id)).running


@_check
async def files_go_in_and_out(bench: Bench) -> None:
    files = [
        FileToSend(path="/tmp/one.txt", content=b"1\n", mode=0o640, uid=12, gid=34),
        FileToSend(path="/made/on/the/way/empty", content=b"", mode=0o600),
    ]
    async with bench.workload(start=False) as id:
        for file in files:
            await bench.engine.send_file(id, file)
            entry, content = (await _tar(bench.engine.read_archive(id, file.path)))[0]
            assert content == file.content
            assert (entry.mode & 0o7777, entry.uid, entry.gid) == (file.mode, file.uid, file.gid)
            assert entry.name == file.path.rpartition("/")[2]
        names = [entry.name.rstrip("/") for entry, _ in await _tar(bench.engine.read_archive(id, "/made/on"))]
        assert (names[0], names[-1]) == ("on", "on/the/way/empty")

        async def missing() -> None:
            async for _ in bench.engine.read_archive(id, "/no/such/file"):
                pass

        await bench.raises(EngineMissing, missing())


@_check
async def large_files_stream(bench: Bench) -> None:
    block = bytes(range(256)) * (STREAM_CHUNK_BYTES // 256)

    async def chunks(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield block

    size = STREAM_CHUNK_BYTES * STREAM_CHUNKS
    async with bench.workload() as id:
        await bench.engine.send_stream(id, "/tmp/big", size, 0o644, 0, 0, chunks(STREAM_CHUNKS))
        entry, content = (await _tar(bench.engine.read_archive(id, "/tmp/big")))[0]
        assert entry.size == size
        assert content == block * STREAM_CHUNKS
        for count in (STREAM_CHUNKS - 1, STREAM_CHUNKS + 1):
            message = await bench.raises(
                InvalidInput, bench.engine.send_stream(id, "/tmp/odd", size, 0o644, 0, 0, chunks(count))
            )
            assert str(size) in message


@_check
async def events_tell_the_story(bench: Bench) -> None:
    seen: list[EngineEvent] = []
    mark = bench.world.hex(8)
    since_ns = bench.world.clock.now_ns() - 1_000_000_000

    async def listen() -> None:
        async for event in bench.engine.events({"mark": mark}, since_ns):
            seen.append(event)
            if event.action == "destroy":
                return

    async with task_owner("conformance") as tasks:
        listening = tasks.start("events", listen())
        await bench.world.clock.sleep(0.05)
        async with bench.workload(labels={"mark": mark}) as id:
            await bench.engine.stop(id, 0)
        await listening
    actions = [event.action for event in seen if event.action in ("create", "start", "die", "destroy")]
    assert actions == ["create", "start", "die", "destroy"]
    assert {event.id for event in seen} == {id}
    assert all(event.labels["mark"] == mark for event in seen)
    assert [event.time_ns for event in seen] == sorted(event.time_ns for event in seen)


@_check
async def lists_networks(bench: Bench) -> None:
    names = [network.name for network in await bench.engine.networks()]
    assert "host" in names
    assert [network.name for network in await bench.engine.networks("host")] == ["host"]
    assert await bench.engine.networks("no-such-driver") == []


@_check
async def images_are_made_tagged_and_removed(bench: Bench) -> None:
    engine = bench.engine
    ref = f"localhost:5999/{bench.prefix}/made:{bench.world.hex(6)}"
    other = f"{ref}-too"
    assert await engine.local_digests(ref) == []
    async with bench.workload() as id:
        made = await engine.commit(id, ref)
    try:
        assert await engine.local_digests(ref) != []
        await engine.tag(ref, other)
        assert ref in (await engine.images(ref))[0].tags
        assert [image.id for image in await engine.images(other)] == [made]
        assert ref in {tag for image in await engine.images() for tag in image.tags}
        assert await engine.images("no/such-image") == []
    finally:
        assert await engine.remove_image(other)
        assert await engine.remove_image(ref)
    assert await engine.local_digests(ref) == []
    await bench.raises(EngineMissing, engine.remove_image(ref))


@_check
async def an_image_that_cannot_be_pulled_says_so_in_the_stream(bench: Bench) -> None:
    image = f"localhost:1/{bench.prefix}/no-such:1"
    problems: list[str] = []
    try:
        problems.extend([step.error async for step in bench.engine.pull(image) if step.error])
    except EngineError as error:
        problems.append(str(error))
    assert problems or bench.engine.type == "fake", "a pull that fails must say so"


@_check
async def figures_grow_while_it_runs_and_are_zero_before(bench: Bench) -> None:
    async with bench.workload(start=False) as id:
        before = await bench.engine.figures(id)
        assert (before.cpu_ns, before.memory) == (0, 0)
        await bench.engine.start(id)
        first = await bench.engine.figures(id)
        second = await bench.engine.figures(id)
        assert second.time_ns >= first.time_ns > 0
        assert second.cpu_ns >= first.cpu_ns >= 0
        assert first.memory > 0
    await bench.raises(EngineMissing, bench.engine.figures(id))


@_check
async def unknown_raw_calls_are_refused(bench: Bench) -> None:
    async with bench.workload(start=False) as id:
        await bench.raises((EngineError, InvalidInput), bench.engine.raw(id, "no-such-op", b""))
        if Capability.RAW in bench.engine.capabilities:
            assert id.encode() in await bench.engine.raw(id, "inspect", b"")


async def _tar(chunks: AsyncIterator[bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    data = b"".join([chunk async for chunk in chunks])
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        found = []
        for entry in tar:
            opened = tar.extractfile(entry)
            found.append((entry, opened.read() if opened is not None else b""))
        return found
