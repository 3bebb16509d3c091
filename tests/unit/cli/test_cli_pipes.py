"""Outputs that end early, are full, or are no text; names of any length; and an interrupt: never a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from eru.wire import core_pb2 as pb

MANY = pb.Pods(pods=[pb.Pod(name=f"pod{number}", desc="x" * 80) for number in range(5000)])


def start(address: str, *words: str, **attrs: Any) -> subprocess.Popen[bytes]:
    attrs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **attrs}
    return subprocess.Popen([sys.executable, "-m", "eru", "-e", address, *words], **attrs)


def test_a_reader_that_leaves_is_no_error(script):
    script.answers["ListPods"] = MANY
    running = start(script.address, "-o", "json", "pod", "list")
    assert running.stdout is not None
    assert running.stdout.read(10)
    running.stdout.close()
    assert running.wait(60) == 0
    assert running.stderr.read() == b""


def test_a_full_disk_is_told(script):
    script.answers["ListPods"] = MANY
    with open("/dev/full", "wb") as full:
        running = start(script.address, "pod", "list", stdout=full)
        told = running.communicate(timeout=60)[1].decode()
    assert running.returncode == 1
    assert told.startswith("error: ")
    assert "No space left on device" in told
    assert "Traceback" not in told


def test_a_terminal_without_our_letters(script):
    script.answers["ListPods"] = MANY
    done = subprocess.run(
        [sys.executable, "-m", "eru", "-e", script.address, "pod", "list"],
        env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_name_of_a_megabyte(eru, script):
    script.answers["ListWorkloads"] = []
    done = eru("workload", "get", "x" * 1_000_000)
    assert done.code == 4
    assert "(1000000 characters)" in done.err
    assert len(done.err) < 1000


def test_an_interrupt_ends_a_call(script):
    ended = threading.Event()

    def never(requests: Iterator[Any]) -> Iterator[pb.Pods]:
        script.asked.append(("ListPods", next(requests)))
        ended.wait(60)
        yield pb.Pods()

    script.answers["ListPods"] = never
    running = start(script.address, "pod", "list")
    while not script.requests("ListPods"):
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    told = running.communicate(timeout=60)[1].decode()
    ended.set()
    assert (running.returncode, "interrupted" in told, "Traceback" in told) == (130, True, False)


@pytest.mark.parametrize(("closed", "told"), [(">&-", b""), ("2>&-", b"one"), ("<&-", b"one"), (">&- 2>&- <&-", b"")])
def test_closed_streams_are_as_good_as_none(script, closed: str, told: bytes):
    script.answers["ListPods"] = pb.Pods(pods=[pb.Pod(name="one")])
    line = f'"$1" -m eru -e "$2" -o name pod list {closed}'
    done = subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, script.address], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, told, b"")


def test_words_without_room_change_no_exit_code(script):
    script.answers["ListPods"] = pb.Pods()
    with open("/dev/full", "wb") as full:
        assert start(script.address, "pod", "nonsense", stderr=full).wait(60) == 2


def test_input_that_never_ends_is_left(script):
    ended = pb.AttachWorkloadMessage(data=b"[exitcode] 0", std_stream_type=pb.STDOUT)

    def first(requests: Iterator[Any]) -> Iterator[pb.AttachWorkloadMessage]:
        next(requests), next(requests)
        yield ended

    script.answers["ExecuteWorkload"] = first
    with open("/dev/zero", "rb") as zeros:
        running = start(script.address, "workload", "exec", "-i", "a" * 64, "true", stdin=zeros)
        assert (running.communicate(timeout=60), running.returncode) == ((b"", b""), 0)


def test_a_word_that_is_no_text(script):
    running = start(script.address, "pod", "add", b"a\xffb")  # type: ignore[arg-type]
    told = running.communicate(timeout=60)[1].decode()
    assert (running.returncode, told.splitlines()[0]) == (
        2,
        r"error: 'a\xffb' is not text: it has bytes that are not UTF-8",
    )
