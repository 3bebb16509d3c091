"""What lives on a terminal, on a real one: `eru tui`, `eru top`, `eru status --watch`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from support.script_core import running_core
from support.terminal import Terminal, terminal

SPEC = """
appname: shop
entrypoints:
  web:
    commands: [sh, -c, "echo hello from a workload; sleep 1000"]
"""
ERU = [sys.executable, "-m", "eru"]

Opened = Callable[..., AbstractContextManager[Terminal]]


@pytest.fixture
def core(tmp_path: Path) -> Iterator[str]:
    """A core with two nodes and three instances, one of them healthy."""
    (tmp_path / "web.yaml").write_text(SPEC)
    with running_core() as address:
        run(address, "pod", "add", "prod")
        for name in ("n1", "n2"):
            run(address, "node", "add", "prod", "--nodename", name, "--endpoint", f"fake://{name}?cpu=4", "--test")
        spec = str(tmp_path / "web.yaml")
        run(address, "workload", "deploy", spec, "--pod", "prod", "--entry", "web", "--image", "shop:1", "--count", "3")
        run(address, "workload", "set-status", "shop_web_aaaaaa", "--running", "--healthy")
        yield address


def run(address: str, *words: str) -> str:
    done = subprocess.run(
        [*ERU, *words], env={"ERU": address, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def opened(core: str, tmp_path: Path) -> Opened:
    def open_(*words: str) -> AbstractContextManager[Terminal]:
        return terminal(str(tmp_path / "tmux"), [*ERU, *words], {"ERU": core})

    return open_


def test_tui_from_list_to_logs_and_back(core: str, opened: Opened) -> None:
    with opened("tui") as screen:
        first = screen.until("1 of 3 instances healthy")
        assert first.splitlines()[1].split()[:4] == ["NAME", "ID", "NODE", "STATE"]
        run(core, "workload", "set-status", "shop_web_aaaaab", "--running", "--healthy")
        screen.until("2 of 3 instances healthy")
        screen.type("/", "aaaaac", "Enter")
        screen.until(lambda text: "/aaaaac" in text and "shop_web_aaaaaa" not in text)
        screen.type("l")
        screen.until("hello from a workload")
        screen.type("C-c")
        screen.until("/aaaaac")
        screen.type("d")
        screen.until(lambda text: "asked" in text and "trouble" in text and "nodename:" in text)
        screen.type("Escape")
        screen.until("workloads 1")
        screen.type("e")
        screen.until(lambda text: "events of shop_web_aaaaac" in text and "recorded" in text)
        screen.type("Escape")
        screen.until("workloads 1")
        screen.type("C-d")
        screen.until("stop and remove shop_web_aaaaac?")
        screen.type("y")
        screen.until("of 2 instances")
        assert "aaaaac" not in run(core, "-o", "name", "workload", "list")
        screen.type("q")
        screen.until("ended:0")


def test_tui_goes_anywhere_and_follows_the_size_of_the_window(opened: Opened) -> None:
    with opened("tui") as screen:
        screen.until("1 of 3 instances healthy")
        screen.type(":", "nodes", "Enter")
        screen.until("fake://n2")
        screen.type("Enter")
        screen.until("workloads of n1")
        screen.resize(60, 10)
        screen.until(lambda text: len(text.splitlines()) <= 10 and "NAME" in text)
        screen.type(":", "t", "Enter")
        screen.until("▸ shop  (3)")
        screen.type("Enter")
        screen.until("└ n1")
        screen.type("C-c")
        screen.until("ended:130")


def test_top_is_live_sorts_by_keys_and_leaves_the_terminal_as_it_was(opened: Opened) -> None:
    with opened("top", "shop", "--interval", "0.5s") as screen:
        screen.until("3 instances by cpu")
        screen.until(lambda text: "%" in text.splitlines()[2])
        screen.type("n")
        lines = screen.until("3 instances by name").splitlines()
        assert [line.split()[0] for line in lines[2:5]] == ["shop_web_aaaaaa", "shop_web_aaaaab", "shop_web_aaaaac"]
        screen.type("q")
        screen.until("ended:0")
        screen.type("echo back", "Enter")
        screen.until("\nback")


def test_status_keeps_a_table_up_to_date_in_place(core: str, opened: Opened) -> None:
    with opened("status", "shop", "--entry", "web", "--watch") as screen:
        screen.until("workloads of shop/web 3")
        run(core, "workload", "set-status", "shop_web_aaaaab", "--running", "--healthy")
        screen.until("2 of 3 instances healthy")
        run(core, "workload", "remove", "shop_web_aaaaac", "--force")
        screen.until("workloads of shop/web 2")
        screen.type("q")
        screen.until("ended:0")


def test_drain_asks_for_the_name_of_the_node_before_it_removes(core: str, opened: Opened) -> None:
    with opened("node", "drain", "n1", "--remove", "--force") as screen:
        screen.until("Type n1 to go on")
        screen.type("no", "Enter")
        screen.until("nothing was removed")
        screen.until("ended:1")
    assert len(run(core, "-o", "name", "workload", "list").split()) == 3
    with opened("node", "drain", "n1", "--remove", "--force") as screen:
        screen.until("Type n1 to go on")
        screen.type("n1", "Enter")
        screen.until("nothing is left on n1")
        screen.until("ended:0")


def test_drain_is_followed_until_the_node_is_empty(core: str, opened: Opened) -> None:
    with opened("node", "drain", "n2", "--timeout", "1m") as screen:
        screen.until("to go")
        [left] = [line.split()[0] for line in run(core, "-o", "name", "node", "workloads", "n2").splitlines()]
        run(core, "workload", "remove", left, "--force")
        screen.until("is gone")
        screen.until("ended:0")
