"""Standard input on its way to a remote command: pieces, end of input, raw terminal, window size."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from eru.wire import core_pb2 as pb
from support.cli_samples import ONE

EXEC = ["workload", "exec", "-i", ONE, "cat"]


class Remote:
    """A remote `cat`: sends back what comes, and ends with code 5 when the input has ended or `quit` came."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.ended = threading.Event()

    def __call__(self, requests: Iterator[Any]) -> Iterator[pb.AttachWorkloadMessage]:
        first = next(requests)
        assert first.open_stdin
        for request in requests:
            self.frames.append(request.repl_cmd)
            if request.repl_cmd[:1] != b"\x80":
                yield pb.AttachWorkloadMessage(data=request.repl_cmd)
            if request.repl_cmd.endswith(b"quit"):
                break
        else:
            self.ended.set()
        yield pb.AttachWorkloadMessage(data=b"[exitcode] 5")


@pytest.fixture
def remote(script) -> Remote:
    made = Remote()
    script.answers["ExecuteWorkload"] = made
    return made


def command(address: str) -> list[str]:
    return [sys.executable, "-m", "eru", "-e", address, *EXEC]


def test_input_is_passed_in_pieces_and_its_end_is_told(script, remote):
    data = b"0123456789\n" * 20_000
    done = subprocess.run(command(script.address), input=data, capture_output=True, timeout=30, check=False)
    assert done.returncode == 5, done.stderr
    assert done.stdout == data
    assert remote.ended.is_set()
    assert len(remote.frames) < 100  # pieces, not characters


def test_no_input_at_all(script, remote):
    done = subprocess.run(
        command(script.address), stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, remote.frames, remote.ended.is_set()) == (5, [], True)


def test_a_terminal_is_raw_follows_its_window_and_is_restored(script, remote):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(follower)
    running = subprocess.Popen(command(script.address), stdin=follower, stdout=follower, stderr=subprocess.PIPE)
    try:
        _until(lambda: remote.frames == [b'\x80{"Row":30,"Col":100}'])
        assert not termios.tcgetattr(follower)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        os.write(leader, b"\x03a\r")  # Ctrl-C is for the remote side
        _until(lambda: b"".join(remote.frames[1:]) == b"\x03a\r")
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 90, 0, 0))
        running.send_signal(signal.SIGWINCH)
        _until(lambda: b'\x80{"Row":40,"Col":90}' in remote.frames)
        os.write(leader, b"quit")
        assert running.wait(20) == 5
    finally:
        running.kill()
        running.communicate()
    assert termios.tcgetattr(follower)[3] == before[3]
    os.close(leader)
    os.close(follower)


def _until(true) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it did not happen within 20 seconds"
        time.sleep(0.02)
