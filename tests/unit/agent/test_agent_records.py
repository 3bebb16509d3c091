"""Log records: text, framing, cutting, the choice of a forward."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eru.agent.logs.forwards import fnv1a_32
from eru.agent.logs.frames import Demultiplexer, LineBuffer
from eru.agent.logs.records import RecordMaker, readable, split_point, stamp
from eru.agent.logs.transports import DatagramTransport, journal_datagram, syslog_line
from eru.agent.workloads import HealthPlan, Workload


def workload() -> Workload:
    return Workload(
        id="f" * 64,
        app="web_shop",
        entrypoint="http",
        ident="abcDEF",
        labels={"ERU": "1", "eru.coreid": "core"},
        env={"ERU_POD": "pod", "ERU_NODE_NAME": "n1"},
        health=HealthPlan(interval_s=60, timeout_s=10),
        running=True,
        networks={"calico": "10.0.0.1", "web": "10.0.0.2"},
    )


def datas(block: bytes) -> list[str]:
    return [json.loads(line)["data"] for line in block.splitlines()]


TRICKY = [
    b"plain",
    b"",
    b'"key": "value",',
    b'a "b" \\n c',
    b"ends with backslash\\",
    b'","',
    b"<b>&",
    "ünï \u2028 \U0001f600".encode(),
    b"\t\x00\x1b[31m",
    "\ue0d5 \\".encode(),
]


def test_record_is_the_published_one() -> None:
    made = RecordMaker(workload()).block(2, b"hello\n", b"2024-01-02 03:04:05.6")
    record = json.loads(made)
    assert list(record) == ["id", "name", "type", "entrypoint", "ident", "data", "datetime", "extra"]
    assert record == {
        "id": "f" * 64,
        "name": "web_shop",
        "type": "stderr",
        "entrypoint": "http",
        "ident": "abcDEF",
        "data": "hello",
        "datetime": "2024-01-02 03:04:05.6",
        "extra": {
            "podname": "pod",
            "nodename": "n1",
            "coreid": "core",
            "networks_calico": "10.0.0.1",
            "networks_web": "10.0.0.2",
        },
    }


def test_blocks_of_tricky_lines() -> None:
    maker = RecordMaker(workload())
    for first in TRICKY:
        for second in TRICKY:
            block = maker.block(1, first + b"\n" + second + b"\r\n" + b"last\n", b"now")
            assert datas(block) == [first.decode(), second.decode(), "last"]


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line and not line.endswith(b"\r")), min_size=1))
def test_any_bytes_become_one_record_per_line(lines: list[bytes]) -> None:
    block = RecordMaker(workload()).block(1, b"".join(line + b"\n" for line in lines), b"now")
    alone = [readable(line) for line in lines]
    assert datas(block) == alone


def test_invalid_bytes_are_readable() -> None:
    assert readable(b"a\xffb\x01\r") == "a\\xffb\\x01\r"
    assert readable(b"a\x01b") == "a\x01b", "valid text keeps its control characters"
    assert readable("a\ufffd".encode()) == "a\\xff\\xfd"


def test_stamp_trims_zeros() -> None:
    assert stamp(1_700_000_000.25).endswith(b".25")
    assert b"." not in stamp(1_700_000_000)


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=20)), max_size=8),
    st.lists(st.integers(1, 15), max_size=30),
)
def test_frames_in_any_pieces(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    raw = b"".join(frame(stream, data) for stream, data in frames)
    reader, got = Demultiplexer(tty=False), {1: b"", 2: b""}
    for size in [*cuts, len(raw) + 1]:
        piece, raw = raw[:size], raw[size:]
        for stream, data in reader.feed(piece):
            got[stream] += data
    assert got == {kind: b"".join(data for stream, data in frames if stream == kind) for kind in (1, 2)}


def test_lines_are_gathered() -> None:
    buffer = LineBuffer()
    assert buffer.feed(b"a") == b""
    assert buffer.feed(b"b\nc\nd") == b"ab\nc\n"
    assert buffer.size == 1
    assert buffer.take() == b"d"
    assert buffer.feed(b"x\n") == b"x\n"


def test_cutting_never_splits_a_character() -> None:
    data = "ä".encode() * 10
    at = split_point(data, 5)
    assert data[:at].decode() == "ää"
    assert split_point(b"abc", 5) == 3


def test_published_choice_of_a_forward() -> None:
    assert fnv1a_32("param1") % 2 == 1
    assert fnv1a_32("param2") % 2 == 0


def test_syslog_and_journal_forms() -> None:
    record = RecordMaker(workload()).block(2, b"it ] broke\n", b"2024-01-02 03:04:05.6")
    line = syslog_line(record, "host").decode()
    assert line.startswith("<131>1 2024-01-02T03:04:05.600000")
    assert " host web_shop abcDEF http [eru@32473 id=" in line
    assert line.endswith("] it ] broke")
    assert syslog_line(line.encode() + b"\n", "host") == line.encode(), "a line from the spool is left as it is"
    assert b"MESSAGE=message it ] broke\n" in journal_datagram(record)


@pytest.mark.parametrize("size", [70_000, 300_000])
def test_large_records_fit_datagrams(size: int) -> None:
    record = RecordMaker(workload()).block(1, b"x" * size + b"\n", b"now")
    units = DatagramTransport(("127.0.0.1", 9), "json").encode(record)
    assert all(len(unit) <= 65_000 for unit in units)
    parts = [json.loads(unit) for unit in units]
    assert "".join(part["data"] for part in parts) == "x" * size
    assert [part.get("partial", False) for part in parts] == [True] * (len(parts) - 1) + [False]
