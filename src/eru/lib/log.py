"""Structured logging to stderr: console lines for people, JSON for machines."""

from __future__ import annotations

import contextlib
import io
import logging
import logging.handlers
import sys
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any, TextIO

import structlog

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


def configure_logging(level: str = "info", use_json: bool = False, stream: TextIO | None = None) -> None:
    """Set up logging for this process.

    Raises ValueError for a level that does not exist.
    """
    number = _LEVELS.get(level.lower())
    if number is None:
        raise ValueError(f"log level {level!r} is unknown, expected one of {', '.join(_LEVELS)}")
    out = _Unfailing(stream or sys.stderr)
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if use_json else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _tell_defects,
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=out),  # type: ignore[arg-type]  # has what it uses
        cache_logger_on_first_use=True,
    )


Tell = Callable[[BaseException, Mapping[str, Any]], None]
_tell: list[Tell] = []


def on_defect(tell: Tell | None) -> None:
    """Hand every exception that is logged as an error, with what the line says, to `tell` as well; None: no more."""
    _tell[:] = [tell] if tell is not None else []


def _tell_defects(logger: object, level: str, said: structlog.typing.EventDict) -> structlog.typing.EventDict:
    error = said.get("exc_info")
    if level == "error" and isinstance(error, BaseException):
        for tell in _tell:
            tell(error, said)
    return said


_trace: list[ContextVar[Any]] = []  # structlog's variable for `trace`, once it has been seen


def trace_id() -> str:
    """The id of the request that is being worked on here, as in its log lines; "" outside of any.

    Asked several times for each event: structlog would look through all its variables each time.
    """
    if not _trace:
        name = f"{structlog.contextvars.STRUCTLOG_KEY_PREFIX}trace"
        _trace.extend(variable for variable in copy_context() if variable.name == name)
        if not _trace:
            return ""
    found = _trace[0].get("")
    return found if isinstance(found, str) else ""  # structlog marks what is bound no more with `...`


class _Unfailing(io.TextIOBase):
    """A stream that never raises: a full disk or a log reader that died is no reason for any work to fail."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out
        self._lost = 0

    def isatty(self) -> bool:
        return self._out.isatty()

    def write(self, text: str) -> int:
        try:
            if self._lost:
                self._out.write(f"(lines of this log that could not be written: {self._lost})\n")
                self._lost = 0
            self._out.write(text)
        except (OSError, ValueError):
            self._lost += 1
        return len(text)

    def flush(self) -> None:
        try:
            self._out.flush()
        except (OSError, ValueError):
            self._lost += 1


class _Rotating(io.TextIOBase):
    """A text stream over a file that is turned over when it gets too large."""

    def __init__(self, handler: logging.handlers.RotatingFileHandler) -> None:
        super().__init__()
        self._handler = handler
        handler.setFormatter(logging.Formatter("%(message)s"))

    def write(self, text: str) -> int:
        if line := text.rstrip("\n"):
            self._handler.emit(logging.LogRecord("eru", logging.INFO, "", 0, line, None, None))
        return len(text)


class _Aged(logging.handlers.RotatingFileHandler):
    """Also removes older files that were written to before `days` ago; looked at whenever the file is turned over."""

    def __init__(self, path: str, size_bytes: int, backups: int, days: int) -> None:
        super().__init__(path, maxBytes=size_bytes, backupCount=backups, encoding="utf-8")
        self._days = days
        self._forget_old()

    def doRollover(self) -> None:
        super().doRollover()
        self._forget_old()

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # noqa: PLE0704 - called from within an except clause; who writes decides

    def _forget_old(self) -> None:
        if not self._days:
            return
        oldest = time.time() - self._days * 86_400
        for number in range(1, self.backupCount + 1):
            kept = Path(f"{self.baseFilename}.{number}")
            with contextlib.suppress(OSError):  # there may be fewer, and others may tidy up, too
                if kept.stat().st_mtime < oldest:
                    kept.unlink()


def rotating(path: str, size_mb: int, backups: int, days: int = 0) -> TextIO:
    """A log file of at most `size_mb`, of which `backups` older ones are kept, none above `days` (0: any age).

    Its directory is made if there is none. Raises OSError.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handler = _Aged(path, size_mb << 20, backups, days)
    return _Rotating(handler)  # type: ignore[return-value]  # has what the logger uses of it
