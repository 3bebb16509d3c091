"""Processes: pid files that cannot lie, background start, orderly stop.

A running process holds a lock on its pid file. Whether the process lives is
asked of the lock, never of the number in the file, which another process may
have got meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog

from eru.lib.world import World
from eru.model.errors import AlreadyExists, InvalidInput

T = TypeVar("T")

_log = structlog.get_logger(__name__)

POLL_S = 0.05
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


@contextmanager
def pid_file(path: str | Path, what: str) -> Iterator[None]:
    """Hold `path` with this process's id in it; an empty path holds nothing.

    Raises AlreadyExists when a living process holds it, InvalidInput when it cannot be written.
    """
    if not str(path):
        yield
        return
    path = Path(path)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidInput(f"pid file {path} cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyExists(
                f"{what} is already running as process {_pid_in(path)} (pid file {path}); stop that one first"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def running(path: Path) -> int | None:
    """The id of the living process that holds the pid file, or None. A stale file counts as none."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(path)
    finally:
        os.close(handle)
    return None


def spawn(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start `eru <arguments>` in a session of its own, output appended to `log`."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "eru", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd="/",
        )


async def stop(world: World, pidfile: Path, what: str, wait_s: float) -> bool:
    """End the process that holds `pidfile`: TERM, and KILL after `wait_s`. False when none runs."""
    pid = running(pidfile)
    if pid is None:
        _forget(pidfile)
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    if not await gone(world, pidfile, wait_s):
        _log.warning("did not end in time and is killed", process=what, pid=pid, seconds=wait_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await gone(world, pidfile, wait_s)
    _forget(pidfile)
    return True


async def gone(world: World, pidfile: Path, wait_s: float) -> bool:
    """Wait until nobody holds `pidfile`; False when `wait_s` passed first."""
    end = world.clock.monotonic() + wait_s
    while running(pidfile) is not None:
        if world.clock.monotonic() > end:
            return False
        await world.clock.sleep(POLL_S)
    return True


def serve_until_told(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `main(stop)` on the fastest event loop there is.

    The first TERM, INT or QUIT sets `stop`; a second one ends the process at
    once. HUP stops what was started on a terminal, which it says is gone; a
    daemon goes on, since its settings are read at the start only.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_with_signals(main))


def run_on_fastest_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, which handles signals itself."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(work)


async def _with_signals(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if told.is_set():
            _log.warning("second signal, ending at once", signal=number.name)
            os._exit(128 + number)
        told.set()
        _log.info("stopping; a second signal ends at once", signal=number.name)

    def on_hang_up() -> None:
        _log.warning("settings are read at the start only: restart to change them", signal="SIGHUP")

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
        if _on_terminal():
            loop.add_signal_handler(signal.SIGHUP, on_signal, signal.SIGHUP)
        else:
            loop.add_signal_handler(signal.SIGHUP, on_hang_up)
    await main(told)


def _on_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


def _pid_in(path: Path) -> int:
    try:
        return int(path.read_text().strip() or 0)
    except (OSError, ValueError):
        return 0
