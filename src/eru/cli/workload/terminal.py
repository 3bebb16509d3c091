"""The user's terminal while a remote command has it: raw mode, its size, and standard input in chunks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

CHUNK_BYTES = 32 * 1024  # one message of standard input
QUEUE_CHUNKS = 16  # read ahead of a slow receiver
RESIZE = b"\x80"


def is_terminal() -> bool:
    """Whether standard input is one."""
    return sys.stdin.isatty()


def size_frame() -> bytes:
    """The message that tells core the size of the terminal."""
    size = _size()
    return RESIZE + json.dumps({"Row": size.lines, "Col": size.columns}, separators=(",", ":")).encode()


def _size() -> os.terminal_size:
    size = os.get_terminal_size(sys.stdin.fileno())
    return os.terminal_size((size.columns or 80, size.lines or 24))  # a terminal may not know its size


@contextmanager
def raw() -> Iterator[None]:
    """Raw mode for the block if standard input is a terminal; restored whatever happens.

    Also while the process is stopped from outside (SIGTSTP; the key belongs to the remote program).
    """
    if not is_terminal():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
        os.kill(os.getpid(), signal.SIGSTOP)  # goes on here when it is continued
        tty.setraw(descriptor, termios.TCSANOW)

    try:
        tty.setraw(descriptor, termios.TCSANOW)
        loop.add_signal_handler(signal.SIGTSTP, stop)
        loop.add_signal_handler(signal.SIGHUP, _hang_up, asyncio.current_task())
        yield
    except BaseException:
        sys.stderr.write("\r\n")  # what is told next does not stand behind a prompt
        raise
    finally:
        # not draining: a terminal whose output is held would hold us
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
        loop.remove_signal_handler(signal.SIGTSTP)
        loop.remove_signal_handler(signal.SIGHUP)


def _hang_up(task: asyncio.Task[object] | None) -> None:
    """The terminal is gone: end as if interrupted, so that core hears of it."""
    if task is not None:
        task.cancel()


async def input_frames() -> AsyncIterator[bytes]:
    """Standard input as it comes, with a size frame first and at each change of a terminal; ends at end of input."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[bool, bytes]] = asyncio.Queue(2 * QUEUE_CHUNKS)  # as many sizes as chunks
    room = threading.Semaphore(QUEUE_CHUNKS)
    # a thread of its own: files, pipes and terminals are all read the same way, and it dies with the process
    threading.Thread(target=_read_all, args=(loop, queue, room), name="stdin", daemon=True).start()
    if is_terminal():
        yield size_frame()
        loop.add_signal_handler(signal.SIGWINCH, _put_size, queue)
    try:
        while True:
            read, frame = await queue.get()
            if read:
                room.release()
            if not frame:
                return
            yield frame
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


def _put_size(queue: asyncio.Queue[tuple[bool, bytes]]) -> None:
    if queue.qsize() < QUEUE_CHUNKS:  # otherwise the next change will tell
        queue.put_nowait((False, size_frame()))


def _read_all(
    loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[tuple[bool, bytes]], room: threading.Semaphore
) -> None:
    """Read while there is `room`; nothing of the loop is waited for, which may end at any time."""
    descriptor = sys.stdin.fileno()
    with suppress(RuntimeError):  # the loop has ended: nobody wants input any more
        while room.acquire():
            try:
                chunk = os.read(descriptor, CHUNK_BYTES)
            except OSError:
                chunk = b""
            loop.call_soon_threadsafe(queue.put_nowait, (True, chunk))
            if not chunk:
                return
