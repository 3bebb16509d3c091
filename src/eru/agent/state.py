"""What the agent keeps on its node between two runs of the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

from eru.lib.world import World
from eru.model.errors import InvalidInput

STATE_WAIT_S = 10.0  # for the agent before this one, which may still hand on what it has
PID_WAIT_S = 1.0
POLL_S = 0.05


class StateDir:
    """A directory for cursors and spools, to be claimed before it is used.

    `complaint`: why the configured one could not be used.
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

    async def claim(self, world: World) -> None:
        """Keep other agents out. Raises InvalidInput if one is in and does not leave."""
        if not await _locked(world, self._seen_fd, STATE_WAIT_S):
            os.close(self._seen_fd)
            raise InvalidInput(
                f"another agent uses {self.path}: end it, or give each its own hostname (its node) or state_dir"
            )

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


class PidFile:
    """The id of this process in a file, readable by its owner only and locked while the process runs."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    async def claim(self, world: World) -> bool:
        """Write it; False if another living process holds it. Raises InvalidInput if it cannot be written."""
        try:
            while self._fd < 0:
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                if not await _locked(world, fd, PID_WAIT_S):
                    os.close(fd)
                    return False
                if _is_at(fd, self._path):
                    self._fd = fd
                else:  # whoever held it has removed it meanwhile
                    os.close(fd)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, str(os.getpid()).encode(), 0)
        except OSError as error:
            raise InvalidInput(f"pid file {self._path} cannot be written: {error.strerror or error}") from error
        return True

    def remove(self) -> None:
        """Remove it if it is ours."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                if _is_at(self._fd, self._path):
                    os.unlink(self._path)
            os.close(self._fd)
            self._fd = -1


async def _locked(world: World, fd: int, wait_s: float) -> bool:
    end = world.clock.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if world.clock.monotonic() >= end:
                return False
            await world.clock.sleep(POLL_S)
        else:
            return True


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
