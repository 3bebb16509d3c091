"""What a person sees in a real terminal: the progress of a deploy, a list that is watched, a shell inside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.script_core import running_core
from support.terminal import WAIT_S, Shell, shell

SPEC = """appname: shop
entrypoints:
  web:
    commands: [sleep, "1000"]
"""
SIZE = (100, 30)  # columns, rows


@dataclass
class Desk:
    """A person's shell beside a core, in a folder with `web.yaml`."""

    shell: Shell
    core: str  # address


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "web.yaml").write_text(SPEC)
    with running_core() as address:
        environ = {"ERU": address, "HOME": str(tmp_path), "ERU_CONFIG": "none", "NO_COLOR": "1"}
        with shell(str(tmp_path / "tmux"), f"{sys.executable} -m eru", environ, *SIZE) as made:
            made.type(f"cd {tmp_path}", "Enter")
            yield Desk(made, address)


@pytest.fixture
def pane(desk: Desk) -> Shell:
    return desk.shell


def prepared(pane: Shell, *, slow_ms: int) -> None:
    pane.run("pod add prod -q -o name")
    pane.sees("^exit=0")
    knobs = f"cpu=8&memory=16G&create_ms={slow_ms}&start_ms={slow_ms}&pull_ms={slow_ms}"
    pane.run(f"node add prod --nodename n1 --endpoint 'fake://n1?{knobs}' --test -q -o name")
    pane.sees("^exit=0")


def masked(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{12}\b", "id0000000000", text)
    return re.sub(r"\d+\.\d+s", "N.Ns", text)


def test_progress_watch_and_a_program_inside(desk: Desk):
    pane = desk.shell
    prepared(pane, slow_ms=1500)

    # the progress is drawn in place, and gone at the end
    pane.run("workload deploy web.yaml --pod prod --entry web --image shop:1 --count 2 --network none")
    assert masked(pane.sees(r"aaaaab  n1  pulling the image")).splitlines() == [
        "deploying shop/web: 0 of 2 done · N.Ns",
        "  shop_web_aaaaaa  n1  pulling the image",
        "  shop_web_aaaaab  n1  pulling the image",
    ]
    pane.sees(r"shop_web_aaaaab  n1  created, starting")
    assert masked(pane.sees(r"^exit=\d+\n\$")).splitlines() == [
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
    pane.sees("shop_web_aaaaab")
    environ = {**os.environ, "ERU_CONFIG": "none"}
    subprocess.run(
        [sys.executable, "-m", "eru", "-e", desk.core, "workload", "remove", "-f", "shop_web_aaaaab"],
        env=environ, check=True, capture_output=True,
    )  # fmt: skip
    end = time.monotonic() + WAIT_S
    while "shop_web_aaaaab" in pane.screen():
        assert time.monotonic() < end, pane.screen()
        time.sleep(0.05)
    assert pane.screen().count("shop_web_aaaaaa") == 1
    pane.type("C-c")
    pane.sees("^exit=(0|130)")

    # inside: its size is known there, what is typed goes there, the terminal is given back
    for wait_s in (1, 5, 20):  # longer where the size takes its time to get there
        pane.run(f"exec -i shop_web_aaaaaa -- sh -c 'sleep {wait_s}; stty size'")
        if f"{SIZE[1]} {SIZE[0]}" in pane.sees("exit=0"):
            break
    else:
        pytest.fail("the size of the terminal is not known inside")
    pane.run("exec -i shop_web_aaaaaa -- cat")
    pane.until_raw()
    pane.type("hello", "Space", "inside", "C-c")  # Ctrl-C is for the program inside
    pane.sees("^hello inside")
    pane.type("C-]")  # ends the input
    pane.sees("exit=0")
    pane.type("stty -a | grep -c ' echo '", "Enter")
    pane.sees("^1$")


def test_an_interrupted_deploy_says_what_became_of_it(pane: Shell):
    prepared(pane, slow_ms=1500)
    pane.run("workload deploy web.yaml --pod prod --entry web --image shop:1 --count 2 --network none")
    pane.sees("created, starting|pulling the image")
    pane.type("C-c")
    seen = pane.sees("^exit=")
    assert "interrupted; core takes back what is not finished" in seen
    assert "error: interrupted: 0 of 2 instances of shop/web stay, 2 taken back" in seen
    assert "exit=130" in seen
    pane.run("workload list -o name")
    assert pane.sees("^exit=0").splitlines()[0] == "exit=0"


def test_a_whole_app_is_removed_when_its_name_is_typed(pane: Shell):
    prepared(pane, slow_ms=0)
    pane.run("workload deploy web.yaml --pod prod --entry web --image shop:1 --count 2 --network none -q -o name")
    pane.sees("^exit=0")
    pane.run("workload remove --app shop --force")
    pane.sees("Remove 2 workloads of app shop.* Type shop to go on:")
    pane.type("shpo", "Enter")
    assert "error: nothing was done" in pane.sees("^exit=1")
    pane.run("workload remove --app shop --force")
    pane.sees("Type shop to go on:")
    pane.type("shop", "Enter")
    assert pane.sees("^exit=0").count("removed") == 2
