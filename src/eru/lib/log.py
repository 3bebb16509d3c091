"""Structured logging to stderr: console lines for people, JSON for machines."""

from __future__ import annotations

import io
import logging
import logging.handlers
import sys
from typing import TextIO

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
    out = stream or sys.stderr
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if use_json else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )


def trace_id() -> str:
    """The id of the request that is being worked on here, as in its log lines; "" outside of any."""
    return str(structlog.contextvars.get_contextvars().get("trace", ""))


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


def rotating(path: str, size_mb: int, backups: int) -> TextIO:
    """A log file of at most `size_mb`, of which `backups` older ones are kept. Raises OSError."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=size_mb << 20, backupCount=backups, encoding="utf-8")
    return _Rotating(handler)  # type: ignore[return-value]  # has what the logger uses of it
