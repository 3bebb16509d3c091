"""The whole terminal as lines to draw and keys to read, on the curses library of Python itself.

    with Screen() as screen:
        screen.draw([Line("title", BOLD), Line("text")])
        key = await screen.key()

Curses sends only what changed since the last drawing. Whatever ends the block,
the terminal is as it was before.
"""

from __future__ import annotations

import asyncio
import curses
import locale
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import NamedTuple, Self

from eru.cli.show.table import one_line, width

KEYS_WAITING_MAX = 1000  # typed faster than anybody can act on
ESCAPE_MS = 25  # how long a lone Escape is waited for what would make it a special key

PLAIN, BOLD, DIM, REVERSE, RED, GREEN, YELLOW, CYAN = range(8)

_NAMED = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_LEFT: "left",
    curses.KEY_RIGHT: "right",
    curses.KEY_PPAGE: "page-up",
    curses.KEY_NPAGE: "page-down",
    curses.KEY_HOME: "home",
    curses.KEY_END: "end",
    curses.KEY_BACKSPACE: "backspace",
    curses.KEY_ENTER: "enter",
    curses.KEY_DC: "delete",
    curses.KEY_RESIZE: "resize",
}
_CONTROL = {"\n": "enter", "\r": "enter", "\t": "tab", "\x1b": "escape", "\x7f": "backspace", "\x08": "backspace"}


class Line(NamedTuple):
    """One line; `spans` paint parts of it: (first column, text that stands there, style)."""

    text: str
    style: int = PLAIN
    spans: Sequence[tuple[int, str, int]] = ()


def usable() -> bool:
    """Whether both sides are a terminal that can be drawn on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") in ("dumb", ""):
        return False
    try:
        curses.setupterm(fd=sys.stdout.fileno())
    except curses.error:  # nobody here knows such a terminal
        return False
    return True


class Screen:
    """Use as `with`, inside a running event loop."""

    def __init__(self) -> None:
        self._keys: asyncio.Queue[str] = asyncio.Queue(KEYS_WAITING_MAX)
        self._styles: dict[int, int] = {}

    def __enter__(self) -> Self:
        locale.setlocale(locale.LC_ALL, "")
        self._loop = asyncio.get_running_loop()
        self._window = curses.initscr()
        try:
            self._begin()
        except BaseException:
            curses.endwin()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_reading()
        self._window.keypad(False)
        curses.nocbreak()
        curses.echo()
        curses.endwin()

    def _begin(self) -> None:
        curses.noecho()
        curses.cbreak()
        curses.set_escdelay(ESCAPE_MS)
        self._window.keypad(True)
        self._window.nodelay(True)
        with suppress(curses.error):  # terminals that cannot hide it
            curses.curs_set(0)
        self._styles = {PLAIN: 0, BOLD: curses.A_BOLD, DIM: curses.A_DIM, REVERSE: curses.A_REVERSE}
        if not os.environ.get("NO_COLOR"):
            with suppress(curses.error):
                curses.start_color()
                curses.use_default_colors()
                colours = {
                    RED: curses.COLOR_RED,
                    GREEN: curses.COLOR_GREEN,
                    YELLOW: curses.COLOR_YELLOW,
                    CYAN: curses.COLOR_CYAN,
                }
                for style, colour in colours.items():
                    curses.init_pair(style, colour, -1)
                    self._styles[style] = curses.color_pair(style)
        self._start_reading()

    # -- drawing

    @property
    def rows(self) -> int:
        return self._window.getmaxyx()[0]

    @property
    def columns(self) -> int:
        return self._window.getmaxyx()[1]

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines from the top, cut to the size of the terminal; nothing else stays."""
        rows, columns = self._window.getmaxyx()
        self._window.erase()
        for row, line in enumerate(lines[:rows]):
            room = columns - 1 if row == rows - 1 else columns  # the last cell of all would scroll
            style = self._styles.get(line.style, 0)
            text = cut(line.text, room)
            if line.style == REVERSE:
                text += " " * (room - width(text))
            with suppress(curses.error, UnicodeError):  # what has no room, and what this locale cannot show
                self._window.addstr(row, 0, text, style)
                for column, part, part_style in line.spans:
                    if column < room:
                        part = cut(part, room - column)
                        self._window.addstr(row, column, part, style | self._styles.get(part_style, 0))
        self._window.refresh()

    # -- keys

    async def key(self) -> str:
        """The next key: a character, or a name as `up`, `page-down`, `enter`, `escape`, `ctrl-d`, `resize`."""
        return await self._keys.get()

    def _start_reading(self) -> None:
        self._loop.add_reader(sys.stdin.fileno(), self._read)
        self._loop.add_signal_handler(signal.SIGWINCH, self._resized)

    def _stop_reading(self) -> None:
        self._loop.remove_reader(sys.stdin.fileno())
        self._loop.remove_signal_handler(signal.SIGWINCH)

    def _resized(self) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        curses.resizeterm(size.lines, size.columns)
        self._window.clear()
        self._put("resize")

    def _read(self) -> None:
        while True:
            try:
                code = self._window.get_wch()
            except curses.error:
                return
            if name := name_of(code):
                self._put(name)

    def _put(self, name: str) -> None:
        with suppress(asyncio.QueueFull):
            self._keys.put_nowait(name)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Give the terminal to somebody else for the block: a shell, a pager of logs."""
        self._stop_reading()
        curses.def_prog_mode()
        curses.endwin()
        try:
            yield
        finally:
            curses.reset_prog_mode()
            self._window.clear()
            self._window.refresh()
            self._start_reading()


def name_of(code: str | int) -> str:
    """A key as curses gives it, by name; "" for one that has none here."""
    if isinstance(code, int):
        return _NAMED.get(code, "")
    if code in _CONTROL:
        return _CONTROL[code]
    if len(code) == 1 and 0 < ord(code) < 27:
        return f"ctrl-{chr(ord(code) + 96)}"
    return code if code.isprintable() else ""


def cut(text: str, columns: int) -> str:
    """As much of `text` as fits; control characters, which a terminal would obey, become spaces."""
    text = one_line(text)
    if text.isascii():
        return text[: max(columns, 0)]
    while text and width(text) > columns:
        text = text[:-1]
    return text
