"""What signals do to a process that serves."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WAIT_S = 60.0
SERVING = """
import asyncio, pathlib, sys
from eru.roots.process import serve_until_told

place = pathlib.Path(sys.argv[1])

async def main(told):
    (place / "ready").touch()
    await told.wait()
    (place / "stopped").touch()

serve_until_told(main)
"""


def until(path: Path) -> None:
    end = time.monotonic() + WAIT_S
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} did not come"
        time.sleep(0.02)


def test_a_daemon_goes_on_when_it_is_told_to_read_its_settings(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVING, str(tmp_path)], start_new_session=True, stderr=subprocess.STDOUT, stdout=-1
    )
    until(tmp_path / "ready")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert (tmp_path / "stopped").exists()
    assert b"restart to change them" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_stop_stops_politely(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVING, str(tmp_path)], start_new_session=True, stderr=subprocess.STDOUT, stdout=-1
    )
    until(tmp_path / "ready")
    process.send_signal(number)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert (tmp_path / "stopped").exists()


def test_a_closed_terminal_stops_what_was_started_on_it(tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", SERVING, str(tmp_path)])
    until(tmp_path / "ready")
    os.close(terminal)
    until(tmp_path / "stopped")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
