"""What a person sees in a real terminal: the progress of a deploy, a list that is watched, a shell inside."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.script_core import running_core

SPEC = """appname: shop
entrypoints:
  web:
    commands: [sleep, "1000"]
"""
WAIT_S = 60.0
SIZE = (100, 30)  # columns, rows


@dataclass
class Pane:
    """One tmux pane with a plain shell in it."""

    socket: Path
    eru: str

    def tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.socket), "-f", "/dev/null", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def type(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "pane", *keys)

    def run(self, command: str) -> None:
        """Clear, then type `eru COMMAND`; at the end its exit code is shown."""
        self.tmux("send-keys", "-t", "pane", "-R")
        self.tmux("clear-history", "-t", "pane")
        self.type(f"clear; {self.eru} {command}; echo exit=$?", "Enter")

    def seen(self) -> str:
        """What is on the screen, without the typed command."""
        text = self.tmux("capture-pane", "-p", "-t", "pane").rstrip("\n")
        return "\n".join(line.rstrip() for line in text.splitlines() if self.eru not in line)

    def until(self, pattern: str) -> str:
        """The screen as soon as the pattern is on it."""
        end = time.monotonic() + WAIT_S
        while not re.search(pattern, seen := self.seen(), re.MULTILINE):
            assert time.monotonic() < end, f"{pattern!r} did not come, this did:\n{seen}"
            time.sleep(0.05)
        return seen

    def until_raw(self) -> None:
        """A program inside has the terminal."""
        end = time.monotonic() + WAIT_S
        with open(self.tmux("display-message", "-p", "-t", "pane", "#{pane_tty}").strip()) as terminal:
            while termios.tcgetattr(terminal)[3] & termios.ICANON:
                assert time.monotonic() < end, "the terminal is not raw"
                time.sleep(0.05)


@pytest.fixture
def pane(tmp_path: Path) -> Iterator[Pane]:
    (tmp_path / "web.yaml").write_text(SPEC)
    with running_core() as address:
        made = Pane(tmp_path / "tmux", f"{sys.executable} -m eru")
        environ = {"ERU": address, "PS1": "$ ", "HOME": str(tmp_path), "ERU_CONFIG": "none", "NO_COLOR": "1"}
        shell = shlex.join(["env", *(f"{key}={value}" for key, value in environ.items()), "sh"])
        columns, rows = (str(each) for each in SIZE)
        made.tmux("new-session", "-d", "-s", "pane", "-x", columns, "-y", rows, "-c", str(tmp_path), shell)
        try:
            made.until(r"^\$")
            yield made
        finally:
            made.tmux("kill-server")


def prepared(pane: Pane, *, slow_ms: int) -> None:
    pane.run("pod add prod -q -o name")
    pane.until("^exit=0")
    knobs = f"cpu=8&memory=16G&create_ms={slow_ms}&start_ms={slow_ms}&pull_ms={slow_ms}"
    pane.run(f"node add prod --nodename n1 --endpoint 'fake://n1?{knobs}' --test -q -o name")
    pane.until("^exit=0")


def masked(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{12}\b", "id0000000000", text)
    return re.sub(r"\d+\.\d+s", "N.Ns", text)


def test_progress_watch_and_a_program_inside(pane: Pane):
    prepared(pane, slow_ms=1500)

    # the progress is drawn in place, and gone at the end
    pane.run("workload deploy web.yaml --pod prod --entry web --image shop:1 --count 2 --network none")
    assert masked(pane.until(r"aaaaab  n1  pulling the image")).splitlines() == [
        "deploying shop/web: 0 of 2 done · N.Ns",
        "  shop_web_aaaaaa  n1  pulling the image",
        "  shop_web_aaaaab  n1  pulling the image",
    ]
    pane.until(r"shop_web_aaaaab  n1  created, starting")
    assert masked(pane.until("^exit=")).splitlines() == [
        "✓ shop_web_aaaaaa on n1",
        "✓ shop_web_aaaaab on n1",
        "┌─────────────────┬──────────────┬──────┬───────────┐",
        "│ NAME            │ ID           │ NODE │ ADDRESSES │",
        "├─────────────────┼──────────────┼──────┼───────────┤",
        "│ shop_web_aaaaaa │ id0000000000 │ n1   │           │",
        "│ shop_web_aaaaab │ id0000000000 │ n1   │           │",
        "└─────────────────┴──────────────┴──────┴───────────┘",
        "deployed 2 of 2 shop/web on 1 node in N.Ns (image N.Ns)",
        "next: eru workload logs -f shop/web",
        "exit=0",
        "$",
    ]

    # a watched list changes in place
    pane.run("workload list --watch --interval 0.2s")
    pane.until("shop_web_aaaaab")
    environ = {**os.environ, "ERU_CONFIG": "none"}
    address = re.search(r"ERU=(\S+)", pane.tmux("list-panes", "-F", "#{pane_start_command}"))
    assert address is not None
    subprocess.run(
        [sys.executable, "-m", "eru", "-e", address[1], "workload", "remove", "-f", "shop_web_aaaaab"],
        env=environ, check=True, capture_output=True,
    )  # fmt: skip
    end = time.monotonic() + WAIT_S
    while "shop_web_aaaaab" in pane.seen():
        assert time.monotonic() < end, pane.seen()
        time.sleep(0.05)
    assert pane.seen().count("shop_web_aaaaaa") == 1
    pane.type("C-c")
    pane.until("^exit=(0|130)")

    # inside: its size is known there, what is typed goes there, the terminal is given back
    for wait_s in (1, 5, 20):  # longer where the size takes its time to get there
        pane.run(f"exec -i shop_web_aaaaaa -- sh -c 'sleep {wait_s}; stty size'")
        if f"{SIZE[1]} {SIZE[0]}" in pane.until("exit=0"):
            break
    else:
        pytest.fail("the size of the terminal is not known inside")
    pane.run("exec -i shop_web_aaaaaa -- cat")
    pane.until_raw()
    pane.type("hello", "Space", "inside", "C-c")  # Ctrl-C is for the program inside
    pane.until("^hello inside")
    pane.type("C-]")  # ends the input
    pane.until("exit=0")
    pane.type("stty -a | grep -c ' echo '", "Enter")
    pane.until("^1$")


def test_an_interrupted_deploy_says_what_became_of_it(pane: Pane):
    prepared(pane, slow_ms=1500)
    pane.run("workload deploy web.yaml --pod prod --entry web --image shop:1 --count 2 --network none")
    pane.until("created, starting|pulling the image")
    pane.type("C-c")
    seen = pane.until("^exit=")
    assert "interrupted; core takes back what is not finished" in seen
    assert "error: interrupted: 0 of 2 instances of shop/web stay, 2 taken back" in seen
    assert "exit=130" in seen
    pane.run("workload list -o name")
    assert pane.until("^exit=0").splitlines()[0] == "exit=0"


def test_a_whole_app_is_removed_when_its_name_is_typed(pane: Pane):
    prepared(pane, slow_ms=0)
    pane.run("workload deploy web.yaml --pod prod --entry web --image shop:1 --count 2 --network none -q -o name")
    pane.until("^exit=0")
    pane.run("workload remove --app shop --force")
    pane.until("Remove 2 workloads of app shop.* Type shop to go on:")
    pane.type("shpo", "Enter")
    assert "error: nothing was done" in pane.until("^exit=1")
    pane.run("workload remove --app shop --force")
    pane.until("Type shop to go on:")
    pane.type("shop", "Enter")
    assert pane.until("^exit=0").count("removed") == 2
