"""Cursor, anchor and the joint between kept and live output."""

from __future__ import annotations

from pathlib import Path

import pytest

from eru.agent.docker import HistoryParser, parse_time_ns
from eru.agent.logs.cursor import TAIL_MAX, Cursor, Place, tail_of
from eru.agent.logs.replay import AnchorSearch, Joiner, already_known, live_lines
from eru.agent.runtime import PastLine

S = 1_000_000_000


def past(*lines: str, start: int = 100, stream: int = 1) -> list[PastLine]:
    return [PastLine(stream, (start + n) * S, line.encode() + b"\n") for n, line in enumerate(lines)]


def place(tail: bytes, last: int, since: int = 0) -> Place:
    return Place(since * S, last * S, {1: tail, 2: b""})


def new_after(kept: list[PastLine], at: Place) -> list[str]:
    search = AnchorSearch(at)
    for line in kept:
        search.feed(line)
    anchor = search.anchor()
    return [line.data.decode().strip() for line in kept if anchor.is_new(line)]


def test_cursor_survives_its_process(tmp_path: Path) -> None:
    cursor = Cursor(tmp_path / "c")
    assert cursor.place is None
    cursor.start(5 * S)
    cursor.advance(2, 1, b"two\n", 9 * S, 8 * S)
    cursor.advance(1, 1, b"one\n", 7 * S, 7 * S)
    again = Cursor(tmp_path / "c").place
    assert again is not None
    assert (again.tails[1], again.last_ns, again.finished) == (b"two\n", 9 * S, False)
    assert again.since_ns == 6 * S, "with a margin for the engine's clock"
    cursor.finish()
    found = Cursor(tmp_path / "c").place
    assert found is not None
    assert found.finished
    (tmp_path / "c").write_bytes(b"ERC1 torn")
    assert Cursor(tmp_path / "c").place is None
    cursor.remove()
    cursor.advance(3, 1, b"late\n", 9 * S, 9 * S)
    assert not (tmp_path / "c").exists(), "a late commit must not bring it back"


def test_tail_is_bounded_and_begins_at_a_line() -> None:
    block = b"".join(b"line %04d\n" % n for n in range(1000))
    tail = tail_of(block)
    assert len(tail) <= TAIL_MAX
    assert tail.startswith(b"line ")
    assert block.endswith(tail)
    assert len(tail_of(b"x" * 5000 + b"\n")) == TAIL_MAX


def test_goes_on_after_the_last_line() -> None:
    assert new_after(past("a", "b", "c", "d"), place(b"a\nb\n", last=101)) == ["c", "d"]


def test_repeated_text_is_told_apart_by_time() -> None:
    kept = past("tick", "tick", "tick", "tick", "tick")
    assert new_after(kept, place(b"tick\n", last=102)) == ["tick", "tick"]


def test_lines_the_engine_never_kept_are_skipped_by_time() -> None:
    kept = past("a", "b", start=100) + past("after", start=200)
    assert new_after(kept, place(b"lost in the engine\n", last=150)) == ["after"]


def test_no_line_yet_means_everything_since() -> None:
    assert new_after(past("a", "b"), place(b"", last=100, since=100)) == ["b"]


def joined(kept: list[PastLine], live: bytes, asked: int) -> tuple[list[str], bytes | None, bool]:
    """(kept lines before, missing beginning of the first live line, whether they met)"""
    joiner = Joiner(asked * S, live_lines({1: live}))
    out = [*joiner.feed(kept), *joiner.settle()]
    complete = joiner.complete
    out += joiner.rest()
    return [line.data.decode().strip() for line in out], joiner.missing.get(1), complete


def test_live_begins_inside_kept_lines() -> None:
    assert joined(past("a", "b", "c", "d"), b"c\nd\ne\n", asked=101) == (["a", "b"], b"", True)


def test_live_begins_inside_a_line() -> None:
    assert joined(past("alpha", "beta", "gamma"), b"ta\ngamma\nx\n", asked=100) == (["alpha"], b"be", True)


def test_same_line_twice_is_decided_by_what_follows() -> None:
    kept = past("x", "a", "x", "b", "x", "c")
    assert joined(kept, b"x\nb\nx\nc\n", asked=100) == (["x", "a"], b"", True)


def test_live_later_than_everything_kept() -> None:
    assert joined(past("a", "b"), b"z\n", asked=100) == (["a", "b"], None, False)


def test_lines_before_the_question_are_never_compared() -> None:
    assert joined(past("a", "b"), b"a\n", asked=101) == (["a", "b"], None, False)


@pytest.mark.parametrize(
    ("live", "skip"), [(b"b\nc\nnew\n", 2), (b"c\n", 1), (b"other\n", None), (b"unfinished", None)]
)
def test_live_repeats_what_was_taken_from_the_log(live: bytes, skip: int | None) -> None:
    assert already_known(past("a", "b", "c"), live_lines({1: live})).get(1) == skip


def test_engine_replaces_invalid_bytes_in_its_log() -> None:
    kept = [PastLine(1, 100 * S, "x\ufffd\n".encode()), *past("y", start=101)]
    assert joined(kept, b"x\xff\ny\n", asked=100) == ([], b"", True)


def test_kept_log_is_parsed_in_any_pieces() -> None:
    def entry(stream: int, text: bytes) -> bytes:
        data = b"2024-01-02T03:04:05.000000007Z " + text
        return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data

    raw = entry(1, b"one\n") + entry(1, b"long ") + entry(2, b"err\n") + entry(1, b"line\n") + entry(1, b"open")
    for size in range(1, len(raw)):
        parser, lines = HistoryParser(tty=False), []
        for at in range(0, len(raw), size):
            lines += parser.feed(raw[at : at + size])
        lines += parser.rest()
        assert [(line.stream, line.data) for line in lines] == [
            (1, b"one\n"),
            (2, b"err\n"),
            (1, b"long line\n"),
            (1, b"open"),
        ]
    assert lines[0].time_ns == parse_time_ns("2024-01-02T03:04:05.000000007Z")
    assert lines[0].time_ns % 1000 == 7


def test_engine_times() -> None:
    assert parse_time_ns("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert parse_time_ns("1970-01-01T02:00:01.000000001+02:00") == 1_000_000_001
    assert parse_time_ns("0001-01-01T00:00:00Z") == 0
    assert parse_time_ns("rubbish") == 0
