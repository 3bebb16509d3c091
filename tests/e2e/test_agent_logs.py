"""Logs from real containers to real receivers, with agent, receiver and engine killed in the middle."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from support.agent_node import NODE, POD, AgentProcess, Printer, RecordingCore, TcpSink, Workloads, chosen, until
from support.docker import ExtraDocker

pytestmark = pytest.mark.docker
KILLS = 2
BLOCK = 1 << 20  # bytes of records on their way from the agent to the kernel
ROOM = 64 << 10  # bytes


async def with_little_room(sink: TcpSink) -> None:
    """Start it again with little room in its kernel for what it has not read."""
    await sink.stop()
    sink.kernel_bytes = ROOM
    await sink.start()


def counting(lines: int, burst: int = 100, pause: str = "0.02") -> tuple[str, str, str]:
    """A command that prints `line 0`, `line 1`, ... with a pause after each burst, then stays."""
    loop = f"echo line $i; i=$((i+1)); [ $((i%{burst})) = 0 ] && sleep {pause}"
    return "sh", "-c", f"i=0; while [ $i -lt {lines} ]; do {loop}; done; sleep 1000"


def wanted(lines: int) -> list[str]:
    return [f"line {number}" for number in range(lines)]


@pytest.fixture
def agent(agent: AgentProcess, sink: TcpSink) -> AgentProcess:
    agent.forward_to(sink.address)
    return agent


async def ready(core: RecordingCore, agent: AgentProcess) -> None:
    agent.start()
    heard = len(core.beats)
    await until(lambda: len(core.beats) > heard, "a heartbeat")
    await until(agent.fine, "the engine listed")


async def test_records_have_every_line_and_the_published_fields(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads
) -> None:
    await ready(core, agent)
    script = r"""echo first; echo 'a "b" \n c\\d <ü>' ; echo oops >&2; sleep 0.5; printf '\377bad\n'; printf 'no end'"""
    id = workloads.run("sh", "-c", script, app="my_app", labels={"eru.coreid": "c1"})
    await until(lambda: len(sink.records(id)) == 5, "five records of a workload that lived a moment")
    record = sink.records(id)[0]
    assert list(record) == ["id", "name", "type", "entrypoint", "ident", "data", "datetime", "extra"]
    assert (record["name"], record["entrypoint"], len(record["ident"])) == ("my_app", "web", 6)
    assert record["extra"] == {"podname": POD, "nodename": NODE, "coreid": "c1", "networks_none": ""}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?", record["datetime"])
    assert sink.texts(id) == ["first", 'a "b" \\n c\\\\d <ü>', "\\xffbad", "no end"]
    assert sink.texts(id, "stderr") == ["oops"]


async def test_tty_and_long_lines(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads
) -> None:
    agent.settings["log"] = {**agent.settings["log"], "line_max": "64KiB"}
    await ready(core, agent)
    tty = workloads.run("sh", "-c", "echo shown; sleep 1000", tty=True)
    long = workloads.run("sh", "-c", "echo $(seq 1 40000); echo end")
    await until(lambda: sink.texts(tty) == ["shown"], "the line of a terminal")
    await until(lambda: sink.texts(long)[-1:] == ["end"], "the line after a long one")
    pieces = sink.records(long)[:-1]
    told = "".join(piece["data"] for piece in pieces)
    assert told == " ".join(map(str, range(1, 40_001))), f"{len(told)} characters"
    assert [piece.get("partial", False) for piece in pieces] == [True] * (len(pieces) - 1) + [False]


async def test_agent_killed_in_the_middle_loses_and_repeats_nothing(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads, tmp_path: Path
) -> None:
    await ready(core, agent)
    printer = Printer(workloads, tmp_path)
    for _ in range(KILLS):
        before = len(sink.data)
        await until(lambda: len(sink.data) > before, "lines flow")  # noqa: B023 - awaited in this round
        await agent.end(signal.SIGKILL)
        await asyncio.sleep(0.2)
        agent.start()
    before = len(sink.data)
    await until(lambda: len(sink.data) > before, "lines flow again")
    printer.end()
    await until(lambda: printer.printed(sink.texts(printer.id)), "the last line")
    await asyncio.sleep(0.2)
    texts = sink.texts(printer.id)
    got, size = printer.numbers(texts), len(sink.data) / len(texts)
    assert set(got) == set(range(printer.printed(texts))), "lost lines"
    back = [(before, after) for before, after in itertools.pairwise(got) if after != before + 1]
    assert len(back) <= KILLS, "only a kill may repeat lines"
    for before, after in back:
        assert after <= before, "out of order"
        assert (before - after + 1) * size <= BLOCK, "more than the block on its way"


async def test_receiver_killed_and_back_is_served_from_the_spool_in_order(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads, tmp_path: Path
) -> None:
    await with_little_room(sink)
    await ready(core, agent)
    printer = Printer(workloads, tmp_path)
    id = printer.id
    await until(lambda: len(sink.texts(id)) > 500, "lines flow")
    await sink.stop()
    await until(lambda: "log receiver" in agent.said(), "the agent says so")
    await asyncio.sleep(0.3)
    await sink.start()
    printer.end()
    await until(lambda: printer.printed(sink.texts(id)), "the last line")
    numbers, size = printer.numbers(sink.texts(id)), len(sink.data) / len(sink.texts(id))
    lost = set(range(printer.printed(sink.texts(id)))) - set(numbers)
    assert len(lost) * size <= ROOM, "only what the dead receiver's kernel had confirmed may be missing"
    assert numbers == sorted(numbers)
    metrics = (await agent.get("/metrics")).decode()
    assert re.search(r"eru_agent_forward_spooled_total\{[^}]*\} [1-9]", metrics)
    assert re.search(r"eru_agent_forward_dropped_total\{[^}]*\} 0", metrics)


async def test_stalled_receiver_does_not_stop_workloads_for_ever(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads
) -> None:
    sink.reading.clear()
    await ready(core, agent)
    id = workloads.run("sh", "-c", "i=0; while [ $i -lt 60000 ]; do echo line $i; i=$((i+1)); done; sleep 1000")
    await until(lambda: "takes nothing" in agent.said(), "the stall is noticed")
    sink.reading.set()
    await until(lambda: sink.lines()[-1:] and b"line 59999" in sink.lines()[-1], "everything after all")
    assert sink.texts(id) == wanted(60000)


async def test_failover_and_choice_between_forwards(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads, tmp_path: Path
) -> None:
    other = TcpSink()
    await other.start()
    sinks = [sink, other]
    for each in sinks:
        await with_little_room(each)
    agent.forward_to(*(each.address for each in sinks))
    await ready(core, agent)
    printer = Printer(workloads, tmp_path)
    id = printer.id
    home, away = sinks[chosen(id, 2)], sinks[1 - chosen(id, 2)]
    await until(lambda: home.texts(id), "lines at the chosen forward")
    assert not away.texts(id)
    await home.stop()
    await until(lambda: away.texts(id), "lines at the other forward")
    await home.start()
    printer.end()
    await until(lambda: printer.printed(home.texts(id) + away.texts(id)), "the last line")
    both = home.texts(id) + away.texts(id)
    size = (len(home.data) + len(away.data)) / len(both)
    assert len(set(range(printer.printed(both))) - set(printer.numbers(both))) * size <= ROOM
    await other.stop()


async def test_live_readers_filters_and_a_slow_one(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads
) -> None:
    await ready(core, agent)
    host, _, port = agent.settings["api"]["addr"].partition(":")
    frozen_reader, frozen = await asyncio.open_connection(host, int(port), limit=1024)
    frozen.write(b"GET /log/?app=live HTTP/1.1\r\nHost: x\r\n\r\n")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /log/?app=live&stream=stderr HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"200" in head.split(b"\r\n")[0]
    assert b"Transfer-Encoding: chunked" in head
    script = "echo seen >&2; i=0; while [ $i -lt 60000 ]; do echo line $i; i=$((i+1)); done; echo after >&2; sleep 1000"
    id = workloads.run("sh", "-c", script, app="live")
    size = int(await reader.readuntil(b"\r\n"), 16)
    chunk = await reader.readexactly(size + 2)
    assert chunk.endswith(b"}\r\n\r\n")
    assert json.loads(chunk)["data"] == "seen"
    await until(lambda: sink.texts(id)[-1:] == ["line 59999"], "the forward was not stalled")
    size = int(await reader.readuntil(b"\r\n"), 16)
    assert json.loads(await reader.readexactly(size))["data"] == "after"
    for gone in (writer, frozen):
        gone.transport.abort()

    async def nobody() -> bool:
        return b"eru_agent_log_readers 0" in await agent.get("/metrics")

    await until(nobody, "readers are released")
    del frozen_reader


async def test_udp_journal_syslog_and_file(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory() as short:
        sockets = {name: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for name in ("udp", "syslog")}
        for made in sockets.values():
            made.bind(("127.0.0.1", 0))
        sockets["journal"] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sockets["journal"].bind(f"{short}/journal")
        forwards = {
            **{name: f"{name}://127.0.0.1:{sockets[name].getsockname()[1]}" for name in ("udp", "syslog")},
            "journal": f"journal://{short}/journal",
            "file": f"file://{tmp_path}/out.log",
        }
        got: dict[str, bytes] = {}
        for name, forward in forwards.items():
            agent.settings["log"] = {"forwards": [forward]}
            agent.settings["state_dir"] = str(tmp_path / f"state-{name}")
            await ready(core, agent)
            id = workloads.run("sh", "-c", "echo hello; sleep 1000")
            if name == "file":
                await until(lambda: b"hello" in read(f"{tmp_path}/out.log"), "a line in the file")
                got[name] = read(f"{tmp_path}/out.log")
            else:
                sockets[name].settimeout(60)
                got[name] = await asyncio.to_thread(sockets[name].recv, 65536)
            await agent.end()
            workloads.ask("DELETE", f"/containers/{id}?force=1")
        for made in sockets.values():
            made.close()
    assert json.loads(got["udp"])["data"] == json.loads(got["file"])["data"] == "hello"
    head = rf"<134>1 \S+T\S+ {NODE} agt \w{{6}} web ".encode()
    assert re.fullmatch(head + rb"\[eru@32473 id=.*\] hello", got["syslog"])
    fields = dict(line.split(b"=", 1) for line in got["journal"].splitlines())
    assert (fields[b"MESSAGE"], fields[b"PRIORITY"]) == (b"message hello", b"6")
    assert (fields[b"SYSLOG_IDENTIFIER"], fields[b"ENTRY_POINT"]) == (b"agt", b"web")


def take_away(extra: ExtraDocker) -> None:
    """A daemon that was killed leaves a mount on its data root."""
    extra.clean()
    subprocess.run(["umount", "-l", str(extra.base / "data")], check=False, capture_output=True)
    shutil.rmtree(extra.base, ignore_errors=True)


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


async def test_engine_killed_and_restarted(
    core: RecordingCore, sink: TcpSink, docker_endpoint: str, tmp_path: Path
) -> None:
    extra = ExtraDocker(Path(tempfile.mkdtemp(prefix="ad")))
    await asyncio.to_thread(extra.start)
    workloads = Workloads(extra.unix_endpoint)
    agent = AgentProcess(
        tmp_path,
        core.port,
        extra.unix_endpoint,
        log={"forwards": [sink.address]},
    )
    try:
        await asyncio.to_thread(extra.load, "bb", Path(docker_endpoint.removeprefix("unix://")))
        await ready(core, agent)
        id = workloads.run(*counting(4000, burst=50))
        await until(lambda: len(sink.texts(id)) > 300, "lines flow")
        await asyncio.to_thread(extra.kill)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(extra.start)
        await until(lambda: sink.texts(id)[-1:] == ["line 3999"], "the last line")
        got = sink.texts(id)
        lost = set(wanted(4000)) - set(got)
        assert len(lost) <= 100, f"lost {len(lost)}: more than one engine buffer"
        assert len(got) - len(set(got)) <= 100, "repeated more than one engine buffer"
        heard = len(core.beats)
        await until(lambda: len(core.beats) > heard, "heartbeats go on")
    finally:
        await agent.end(signal.SIGKILL)
        await asyncio.to_thread(take_away, extra)
