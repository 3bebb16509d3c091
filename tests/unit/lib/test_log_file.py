"""The log in a file: turned over, and the old ones removed by number and by age."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eru.lib.log import rotating

DAY_S = 86_400


def test_turned_over_and_aged(tmp_path: Path) -> None:
    path = tmp_path / "core.log"
    for number, days in ((1, 1), (2, 40), (3, 5)):
        kept = tmp_path / f"core.log.{number}"
        kept.write_text("old\n")
        then = kept.stat().st_mtime - days * DAY_S
        os.utime(kept, (then, then))
    stream = rotating(str(path), 1, 3, days=28)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["core.log", "core.log.1", "core.log.3"]
    stream.write("x" * 1_000_000 + "\n")
    stream.write("y" * 1_000_000 + "\n")
    assert path.read_text().startswith("y")
    assert (tmp_path / "core.log.1").read_text().startswith("x")
    assert (tmp_path / "core.log.2").read_text() == "old\n"


def test_any_age(tmp_path: Path) -> None:
    kept = tmp_path / "core.log.1"
    kept.write_text("old\n")
    os.utime(kept, (0, 0))
    rotating(str(tmp_path / "core.log"), 1, 3, days=0)
    assert kept.exists()


def test_its_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "log" / "eru" / "core.log"
    rotating(str(path), 1, 3).write("first\n")
    assert path.read_text() == "first\n"


FAILING = """
import sys, structlog
from eru.lib.log import configure_logging, rotating

out = rotating("/dev/full", 0, 0) if sys.argv[1] == "file" else sys.stderr
configure_logging(stream=out)
log = structlog.get_logger("x")
for number in range(5):
    log.info("line", number=number)
print("went on")
"""


@pytest.mark.parametrize("where", ["file", "stream", "pipe"])
def test_work_goes_on_when_the_log_cannot_be_written(where: str) -> None:
    """The disk is full, or who reads the log has died."""
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("wb") as full:
        stderr = writer if where == "pipe" else full
        command = [sys.executable, "-c", FAILING, where]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, check=False, timeout=60)
    os.close(writer)
    assert done.stdout == b"went on\n"


def test_lost_lines_are_counted_in_the_log(tmp_path: Path) -> None:
    code = """
import errno, io, sys, structlog
from eru.lib.log import configure_logging

class Full(io.StringIO):
    full = False

    def write(self, text):
        if self.full:
            raise OSError(errno.ENOSPC, "no space")
        return super().write(text)

out = Full()
configure_logging(use_json=True, stream=out)
log = structlog.get_logger("x")
log.info("first")
out.full = True
log.info("second")
log.info("third")
out.full = False
log.info("fourth")
print(out.getvalue())
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    first, lost, fourth = said.strip().splitlines()
    assert '"first"' in first
    assert lost == "(lines of this log that could not be written: 2)"
    assert '"fourth"' in fourth
