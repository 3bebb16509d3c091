"""Questions to a person at a terminal, on standard error.

An event loop takes Ctrl-C for itself and would act on it only after the
answer, and so with the end that `kill` asks for. While a question waits, both
do what they do everywhere.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click


def ask(question: str, *, default: str | None = "") -> str:
    """What is typed; `default` if that is nothing, None: something has to be. Raises click.Abort for Ctrl-C."""
    with _ended_by_signals():
        return str(click.prompt(question, err=True, default=default, show_default=bool(default)))


def sure(question: str) -> bool:
    """Whether the answer is yes. Raises click.Abort for Ctrl-C."""
    with _ended_by_signals():
        return click.confirm(question, err=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    end = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, end)
