"""What the agent keeps on its node between two runs of the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

from eru.model.errors import InvalidInput


class StateDir:
    """A directory for cursors and spools. `complaint`: why the configured one could not be used.

    Raises InvalidInput if another agent uses it.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.complaint = ""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=self.path):
                pass
        except OSError as error:
            self.complaint = f"state_dir {path} cannot be used ({error})"
            self.path = Path(tempfile.mkdtemp(prefix="eru-agent-"))
        self._seen_fd = os.open(self.path / "last-seen", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._seen_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._seen_fd)
            raise InvalidInput(f"state_dir {path} is in use by another agent: give each its own") from None

    def last_seen(self) -> float:
        """Unix seconds up to which the process before this one saw everything; 0: never."""
        try:
            return float(os.pread(self._seen_fd, 32, 0) or b"0")
        except ValueError:
            return 0.0

    def set_last_seen(self, seconds: float) -> None:
        with contextlib.suppress(OSError):  # a full disk: the file keeps its older, more careful value
            os.pwrite(self._seen_fd, f"{seconds:031.6f}".encode(), 0)

    def close(self) -> None:
        os.close(self._seen_fd)


def write_pid(path: str) -> None:
    """Write this process's id, readable by its owner only. Raises InvalidInput if that cannot be done."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
    except OSError as error:
        raise InvalidInput(f"pid file {path} cannot be written: {error}") from error


def remove_pid(path: str) -> None:
    """Remove the pid file if it is still ours."""
    with contextlib.suppress(OSError):
        if Path(path).read_text(encoding="ascii") == str(os.getpid()):
            os.unlink(path)
