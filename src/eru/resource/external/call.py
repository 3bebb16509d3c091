"""One command of an external resource program: JSON in on stdin, JSON out on stdout.

The program is called as `<path> <command>` in its own directory. Empty output
is an empty answer; an exit code other than 0 is an error, told in the
program's own words. Programs that answer on stderr are understood too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from eru.model.errors import Expired, InvalidInput, Refused

OUTPUT_BYTES_MAX = 16 << 20  # of one answer
WORDS_MAX = 500  # characters of a program's own words in an error
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Program:
    """An executable file; its name is the kind's name. `timeout_s` bounds each call."""

    path: Path
    timeout_s: float = 30.0

    @property
    def name(self) -> str:
        return self.path.name

    def call(self, command: str, payload: Any) -> Any:
        """The decoded answer (None when there is none).

        Raises Expired after the timeout, Refused when the program fails or answers nonsense.
        """
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(msgspec.json.encode(payload))
            given.seek(0)
            code = self._run(command, given, out, err)
            answer, words = _read(out, OUTPUT_BYTES_MAX + 1), _read(err, OUTPUT_BYTES_MAX + 1)
        if code:
            raise Refused(f"resource plugin {self.name}: {command} failed: exit status {code}{_told(words or answer)}")
        if len(answer) > OUTPUT_BYTES_MAX or len(words) > OUTPUT_BYTES_MAX:
            raise Refused(
                f"resource plugin {self.name}: {command} answered more than {OUTPUT_BYTES_MAX} bytes, which is too much"
            )
        return self._decode(command, answer, words)

    def _run(self, command: str, given: IO[bytes], out: IO[bytes], err: IO[bytes]) -> int:
        try:
            process = subprocess.Popen(
                [str(self.path), command],
                cwd=self.path.parent,
                stdin=given,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            raise Refused(f"resource plugin {self.name} cannot be run: {error.strerror}: {self.path}") from error
        try:
            return process.wait(self.timeout_s)
        except subprocess.TimeoutExpired:
            raise Expired(
                f"resource plugin {self.name}: {command} took longer than {self.timeout_s:g} s "
                f"(resource_plugin.call_timeout)"
            ) from None
        finally:
            _end(process)

    def _decode(self, command: str, answer: bytes, words: bytes) -> Any:
        for text in (answer, words):
            if not text.strip():
                continue
            try:
                return msgspec.json.decode(text)
            except msgspec.DecodeError:
                if text is words:
                    break  # remarks beside an empty answer
                raise Refused(
                    f"resource plugin {self.name}: {command} answered something that is not JSON{_told(text)}"
                ) from None
        return None


def find_programs(directory: str, timeout_s: float) -> list[Program]:
    """Regular files of a directory that everybody may execute, by name; libraries (`*.so`) are none.

    Raises InvalidInput when the directory cannot be read.
    """
    try:
        found = sorted(Path(directory).iterdir())
    except OSError as error:
        raise InvalidInput(f"resource_plugin.dir {directory!r} cannot be read: {error.strerror}") from error
    programs = []
    for path in found:
        mode = path.stat().st_mode if path.is_file() else 0
        if stat.S_ISREG(mode) and mode & _EXECUTABLE == _EXECUTABLE and path.suffix != ".so":
            programs.append(Program(path.resolve(), timeout_s))
    return programs


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and what it started; it has a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(file: IO[bytes], most: int) -> bytes:
    file.seek(0)
    return file.read(most)


def _told(words: bytes) -> str:
    text = " ".join(words[: WORDS_MAX * 4].decode("utf-8", "replace").split())
    return f": {text[:WORDS_MAX]}" if text else ""
