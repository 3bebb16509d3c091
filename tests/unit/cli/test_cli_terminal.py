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

from eru.cli.workload import console
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
        assert running.wait(60) == 5
    finally:
        running.kill()
        running.communicate()
    assert termios.tcgetattr(follower)[3] == before[3]
    os.close(leader)
    os.close(follower)


class Terminal:
    """`exec -i` on a terminal of its own."""

    def __init__(self, address: str) -> None:
        self.leader, self.follower = pty.openpty()
        self.before = termios.tcgetattr(self.follower)
        self.process = subprocess.Popen(
            command(address), stdin=self.follower, stdout=self.follower, stderr=subprocess.PIPE
        )

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.follower)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)

    def restored(self) -> bool:
        return termios.tcgetattr(self.follower) == self.before

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.leader)
        os.close(self.follower)


@pytest.fixture
def terminal(script, remote) -> Iterator[Terminal]:
    made = Terminal(script.address)
    _until(lambda: made.raw and remote.frames)
    yield made
    made.close()


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_terminal_is_restored_when_the_command_is_told_to_end(terminal, signal_: int):
    terminal.process.send_signal(signal_)
    assert terminal.process.wait(60) == 130
    assert terminal.restored()


def test_a_terminal_is_restored_while_the_command_is_stopped(terminal):
    terminal.process.send_signal(signal.SIGTSTP)
    _until(terminal.restored)
    terminal.process.send_signal(signal.SIGCONT)
    _until(lambda: terminal.raw)
    os.write(terminal.leader, b"quit")
    assert terminal.process.wait(60) == 5
    assert terminal.restored()


def test_a_terminal_is_restored_when_core_is_lost(script, remote):
    broken = threading.Event()

    def answer(requests: Iterator[Any]) -> Iterator[pb.AttachWorkloadMessage]:
        next(requests)
        yield pb.AttachWorkloadMessage(data=b"prompt$ ")
        broken.wait(60)
        raise RuntimeError("lost")

    script.answers["ExecuteWorkload"] = answer
    made = Terminal(script.address)
    try:
        _until(lambda: made.raw)
        broken.set()
        assert made.process.wait(60) == 1
        assert made.restored()
        assert b"error: " in made.process.stderr.read()
    finally:
        made.close()


def test_attach_prints_what_comes_and_says_how_it_ended(eru, script):
    script.answers |= {
        "LogStream": [
            pb.LogStreamMessage(id=ONE, data=b"hello", std_stream_type=pb.STDOUT),
            pb.LogStreamMessage(id=ONE, data=b"oops\n", std_stream_type=pb.STDERR),
        ],
        "GetWorkloadsStatus": pb.WorkloadsStatus(status=[pb.WorkloadStatus(id=ONE)]),
    }
    done = eru("workload", "attach", ONE)
    assert (done.code, done.out) == (0, "hello\n")
    assert "oops\n" in done.err
    assert "has stopped" in done.err
    asked = script.requests("LogStream")[0]
    assert (asked.tail, asked.follow) == ("0", True)
    script.answers["LogStream"] = [pb.LogStreamMessage(error="it does not run")]
    assert eru("workload", "attach", ONE).code == 1


async def test_the_keys_that_leave():
    async def typed(*frames: bytes):
        for frame in frames:
            yield frame

    async def passed(*frames: bytes) -> list[bytes]:
        return [frame async for frame in console.until_left(typed(*frames))]

    assert await passed(b"ls\n", b"\x10", b"\x11", b"more") == [b"ls\n"]
    assert await passed(b"a\x10\x11b") == [b"a"]
    assert await passed(b"\x10", b"x", b"\x11") == [b"\x10x", b"\x11"]
    assert await passed(b"\x10", b"\x80{}", b"\x11") == [b"\x80{}"]
    assert await passed(b"a\x10") == [b"a", b"\x10"]


def console_of(script) -> tuple[list[bytes], list[str]]:
    """A scripted workload that sends its input back, and the command line that attaches to it."""
    frames: list[bytes] = []

    def answer(requests: Iterator[Any]) -> Iterator[pb.AttachWorkloadMessage]:
        first = next(requests)
        assert (first.id, first.stdin) == (ONE, True)
        for request in requests:
            frames.append(request.input)
            yield pb.AttachWorkloadMessage(data=request.input)
        yield pb.AttachWorkloadMessage(data=b"[exitcode] 7")

    script.answers["Attach"] = answer
    return frames, [sys.executable, "-m", "eru", "-e", script.address, "workload", "attach", "-i", ONE]


def test_attach_with_input_ends_as_the_program_does(script):
    frames, words = console_of(script)
    done = subprocess.run(words, input=b"hello\n", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, frames) == (7, b"hello\n", [b"hello\n"]), done.stderr


def test_the_keys_that_leave_give_the_terminal_back(script):
    frames, words = console_of(script)
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    running = subprocess.Popen(words, stdin=follower, stdout=follower, stderr=subprocess.PIPE)
    try:
        _until(lambda: termios.tcgetattr(follower) != before)  # raw
        os.write(leader, b"one")
        _until(lambda: b"one" in b"".join(frames))
        os.write(leader, b"\x10")
        os.write(leader, b"\x11")
        assert running.wait(60) == 0
        assert b"goes on" in running.stderr.read()
        assert termios.tcgetattr(follower) == before
    finally:
        running.kill()
        running.wait()
        running.stderr.close()
        os.close(leader)
        os.close(follower)


def _until(true) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not happen within a minute"
        time.sleep(0.02)
