"""Lists that fit the terminal, `-o wide`, `--watch` and `--json`."""

from __future__ import annotations

import json
import os
import pty
import re
from contextlib import redirect_stdout, suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eru.cli.app import root, run
from eru.cli.exits import Problem
from eru.cli.session import Session
from eru.cli.settings import Settings
from eru.cli.show import lists
from eru.cli.show.columns import Column, cut, fitted, wide
from eru.cli.show.fit import boxes
from eru.cli.show.table import render, render_merged, width
from eru.cli.show.watch import interval, repeat
from eru.lib.world import seeded_world
from eru.model.errors import CoreUnreachable
from eru.wire import core_pb2 as pb
from support.cli_samples import NODE, ONE, OTHER, WORKLOAD
from support.scripted_core import Fails

ILL = pb.Workload(id="b" * 64, name="app_web_zzzzzz", nodename="n1", status=pb.WorkloadStatus(id="b" * 64))
PAINT = re.compile(r"\x1b\[[0-9;]*m")


def test_what_is_ill_or_down_comes_first():
    text = wide(lists.workloads([WORKLOAD, OTHER, ILL], now_s=0.0))
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["app_web_zzzzzz", "app_web_ghijkl", "app_web_abcdef"]
    down = pb.Node(name="z", available=False)
    out = pb.Node(name="y", available=True, bypass=True)
    text = wide(lists.nodes([NODE, out, down]))
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["z", "y", "n1"]
    assert "1.5/4 38%" in text


def test_wide_is_whole_and_a_terminal_gets_short_ids():
    columns = lists.workloads([WORKLOAD], now_s=0.0)
    assert ONE in wide(columns)
    assert "127.0.0.1:80,127.0.0.1:81" in wide(columns)
    narrow = fitted(columns, 100, paint=False)
    assert (ONE in narrow, ONE[:12] in narrow) == (False, True)


def test_what_matters_least_goes_first():
    columns = lists.workloads([WORKLOAD], now_s=0.0)
    heads = {size: fitted(columns, size, paint=False).splitlines()[0].split() for size in (200, 60, 40)}
    assert heads[200] == ["NAME", "ID", "NODE", "POD", "STATE", "ADDRESSES"]
    assert {"NAME", "STATE", "NODE"} <= set(heads[60])
    assert heads[40][0] == "NAME"
    assert "STATE" in heads[40]


@settings(deadline=None)
@given(
    cells=st.lists(st.tuples(st.text("ab节", max_size=60), st.text("xyz", max_size=90)), min_size=1, max_size=5),
    screen=st.integers(40, 200),
)
def test_no_line_is_wider_than_the_screen(cells: list[tuple[str, str]], screen: int):
    columns = [
        Column("NAME", [each[0][:10] for each in cells], matters=9),
        Column("WHAT", [each[1] for each in cells], matters=5, least=8),
        Column("MORE", [each[0] for each in cells], matters=2, least=6, colour=lambda text: "31"),
    ]
    for line in fitted(columns, screen, paint=True).splitlines():
        assert width(PAINT.sub("", line)) <= screen


LINE = st.text("ab 节", max_size=70)


ROWS = st.lists(st.tuples(LINE, LINE, LINE), min_size=1, max_size=4)


@settings(deadline=None)
@given(rows=ROWS, screen=st.integers(45, 120), line=st.booleans())
def test_a_box_fits_and_loses_nothing(rows: list[tuple[str, str, str]], screen: int, line: bool):
    text = render(["ONE", "TWO", "THREE"], [[[cell] for cell in row] for row in rows], separate=line)
    fits = boxes(text, screen)
    lines = fits.splitlines()
    assert {width(each) for each in lines} == {width(lines[0])}
    assert width(lines[0]) <= max(screen, min(width(text.splitlines()[0]), 45))
    letters = [sorted(char for char in each if char in "ab节") for each in (text, fits)]
    assert letters[0] == letters[1]
    assert boxes(text, 1000) == text


def test_a_merged_box_keeps_its_joints():
    text = render_merged(["NODE", "IMAGE"], [["n1", "word " * 20], ["n1", "b"], ["n2", "c"]], {0})
    assert boxes(text, 30).splitlines() == [
        "┌──────┬─────────────────────┐",
        "│ NODE │ IMAGE               │",
        "├──────┼─────────────────────┤",
        *(["│ n1   │ word word word word │"] + ["│      │ word word word word │"] * 4),
        "│      ├─────────────────────┤",
        "│      │ b                   │",
        "├──────┼─────────────────────┤",
        "│ n2   │ c                   │",
        "└──────┴─────────────────────┘",
    ]
    assert boxes("plain\n" + text, 30).startswith("plain\n┌")


def test_cut_marks_what_is_missing():
    assert (cut("abcdef", 4), cut("abc", 4), cut("节节节", 4)) == ("abc…", "abc", "节…")


def everything(leader: int) -> str:
    """What was written to a terminal whose other side is closed."""
    pieces = []
    with suppress(OSError):  # how the end is told
        while piece := os.read(leader, 1 << 16):
            pieces.append(piece)
    os.close(leader)
    return b"".join(pieces).decode()


def on_terminal(*words: str) -> str:
    """What `eru ...` prints when standard output is a terminal."""
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal, redirect_stdout(terminal):
        run(root(), "eru", list(words))
    return everything(leader)


def test_a_terminal_gets_a_list_and_a_pipe_the_box(eru, script, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    script.answers |= {"ListWorkloads": [WORKLOAD], "ListPodNodes": [NODE]}
    assert eru("workload", "list").out.startswith("┌")
    shown = on_terminal("workload", "list")
    assert shown.startswith("NAME")
    assert "\x1b[32mhealthy\x1b[0m" in shown
    assert "\x1b[32mup\x1b[0m" in on_terminal("node", "list")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in on_terminal("workload", "list")
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("CLICOLOR", "0")
    assert "\x1b" not in on_terminal("workload", "list")
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    assert "\x1b[31merror:" in eru("nonsense").err
    monkeypatch.delenv("CLICOLOR_FORCE")
    monkeypatch.setenv("TERM", "dumb")
    assert on_terminal("workload", "list").startswith("┌")
    assert eru("workload", "list", "-o", "wide").out.startswith("NAME")
    assert eru("workload", "list", "-o", "wide").out.splitlines()[1].split()[1] == ONE
    assert eru("workload", "list", "--utc", "-o", "wide").out.splitlines()[0].split()[7:8] == ["CREATED"]


def test_an_unknown_format_is_refused_except_by_the_published_program(eru, script):
    script.answers["ListPods"] = pb.Pods(pods=[pb.Pod(name="a")])
    done = eru("-o", "jason", "pod", "list")
    assert (done.code, done.err.splitlines()[-1]) == (2, "  hint: did you mean json or jsonl?")
    assert eru("pod", "list", "-o", "xml").code == 2
    assert eru("-o", "xml", "pod", "list", published=True).out.startswith("┌")


def test_json_of_some_fields(eru, script):
    script.answers["ListWorkloads"] = [WORKLOAD, OTHER]
    done = eru("workload", "list", "--json", "name,image,nodename")
    assert json.loads(done.out)[0] == {"name": "app_web_abcdef", "image": None, "nodename": "n1"}
    assert {"id", "name", "podname", "status"} <= set(json.loads(eru("workload", "list", "--json", "?").out))
    lines = eru("-o", "jsonl", "--json", "name", "workload", "list").out.splitlines()
    assert lines == ['{"name":"app_web_abcdef"}', '{"name":"app_web_ghijkl"}']
    done = eru("workload", "list", "--json", "nmae")
    assert (done.code, done.err.splitlines()[-1]) == (2, "  hint: did you mean name?")


class Rounds:
    """A list that is another one each time; then the user has enough."""

    def __init__(self, session: Session, *rounds: list[dict[str, object]] | Exception) -> None:
        self.session = session
        self.rounds = list(rounds)

    async def __call__(self) -> None:
        if not self.rounds:
            raise KeyboardInterrupt
        found = self.rounds.pop(0)
        if isinstance(found, Exception):
            raise found
        table = "".join(f"{item['name']}\n" for item in found)
        self.session.show(found, lambda: table, [str(item["name"]) for item in found])


A, B = {"name": "a"}, {"name": "b"}
AWAY = CoreUnreachable("core at x went away", rpc="ListPods", code=14)


async def test_changes_are_lines(capsys: pytest.CaptureFixture[str]):
    session = Session(Settings(), seeded_world(1))
    with pytest.raises(KeyboardInterrupt):
        await repeat(session, Rounds(session, [A], [A], [{**A, "x": 1}, B], AWAY, AWAY, [B]), 0.01)
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"event": "added", "item": A},
        {"event": "changed", "item": {**A, "x": 1}},
        {"event": "added", "item": B},
        {"event": "removed", "item": {**A, "x": 1}},
    ]
    assert err == "warning: core does not answer, trying again\n"


async def test_what_is_wrong_at_the_beginning_ends_it():
    session = Session(Settings(), seeded_world(1))
    with pytest.raises(CoreUnreachable):
        await repeat(session, Rounds(session, AWAY), 0.01)
    with pytest.raises(Problem):
        interval("0.1s")


async def test_a_picture_is_redrawn_where_it_stands(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    leader, follower = pty.openpty()
    session = Session(Settings(argv=("pod", "list", "-w")), seeded_world(1))
    with os.fdopen(follower, "w") as terminal, redirect_stdout(terminal), pytest.raises(KeyboardInterrupt):
        await repeat(session, Rounds(session, [A, B], AWAY, [{"name": "x" * 70}]), 0.01)
    shown = everything(leader).replace("\r\n", "\n")
    first, second, third = shown.split("\x1b[3A\r\x1b[J")
    assert PAINT.sub("", first).startswith("every 0.01s: eru pod list -w · ")
    assert first.endswith("a\nb\n")
    assert "core does not answer; this is old" in second.replace("\n", "") or "core does not" in second
    assert second.endswith("a\nb\n")
    assert third.splitlines()[-1] == "x" * 59 + "…"


def test_watch_is_offered_by_lists(eru, script):
    for words in (("pod", "list"), ("pod", "nodes"), ("node", "list"), ("workload", "list"), ("image", "list")):
        assert "--watch" in eru(*words, "--help").out, words
    script.answers["ListPods"] = Fails("broken")
    assert eru("pod", "list", "--watch").code == 1
    assert eru("pod", "list", "--watch", "--interval", "x").code == 2
    assert replace(Settings(), utc=True).utc
