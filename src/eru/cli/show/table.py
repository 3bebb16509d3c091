"""Boxed tables, byte for byte in the published style.

A record is a list of columns, each a list of lines; records become physical
rows by "zip longest". A line that itself contains newlines makes its physical
row taller. Text is never wrapped, cut or coloured.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

# what others wrote (descriptions, names) must not move the cursor or change colours
_HARMLESS = {**dict.fromkeys((*range(32), 127), "\ufffd"), ord("\n"): "\n", ord("\t"): "    "}

Record = Sequence[Sequence[str]]


def width(text: str) -> int:
    """Columns `text` takes on a terminal (wide characters take two, combining ones none)."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def one_line(text: str) -> str:
    """`text` without anything that a terminal would obey: line ends and control characters become spaces."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def render(headers: Sequence[str], records: Sequence[Record], *, separate: bool = False) -> str:
    """The table as text with a final newline; "" without headers.

    `separate` draws a line between records. Columns without a header get an
    empty one.
    """
    if not headers:
        return ""
    count = max([len(headers), *(len(record) for record in records)])
    heads = [head.upper() for head in headers] + [""] * (count - len(headers))
    groups = [_physical(record, count) for record in records]
    widths = _widths(heads, [row for group in groups for row in group])
    line = _rule(widths, "├┼┤")
    out = [_rule(widths, "┌┬┐"), *_row(heads, widths), line]
    for index, group in enumerate(groups):
        if separate and index:
            out.append(line)
        for row in group:
            out += _row(row, widths)
    out.append(_rule(widths, "└┴┘"))
    return "\n".join(out) + "\n"


def render_merged(headers: Sequence[str], rows: Sequence[Sequence[str]], merged: set[int]) -> str:
    """A table with a line under every row, where `merged` columns melt into the row above when equal or empty."""
    heads = [head.upper() for head in headers]
    widths = _widths(heads, rows)
    out = [_rule(widths, "┌┬┐"), *_row(heads, widths)]
    above: Sequence[str] | None = None
    for row in rows:
        melts = [
            column in merged and above is not None and cell in ("", above[column]) for column, cell in enumerate(row)
        ]
        out.append(_merged_rule(widths, melts))
        out += _row(["" if melt else cell for cell, melt in zip(row, melts, strict=True)], widths)
        above = row
    if above is None:
        out.append(_rule(widths, "├┼┤"))
    out.append(_rule(widths, "└┴┘"))
    return "\n".join(out) + "\n"


def _physical(record: Record, count: int) -> list[list[str]]:
    columns = [[line.translate(_HARMLESS) for line in column] for column in record] + [
        [] for _ in range(count - len(record))
    ]
    return [list(row) for row in zip_longest(*columns, fillvalue="")]


def _widths(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    widths = [width(head) for head in heads]
    for row in rows:
        for column, cell in enumerate(row):
            size = len(cell) if cell.isascii() and "\n" not in cell else max(map(width, cell.split("\n")))
            if size > widths[column]:
                widths[column] = size
    return widths


def _row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    tall = any("\n" in cell for cell in cells)
    lines = zip_longest(*(cell.split("\n") for cell in cells), fillvalue="") if tall else [cells]
    return [
        "│" + "│".join(f" {_padded(text, size)} " for text, size in zip(line, widths, strict=True)) + "│"
        for line in lines
    ]


def _padded(text: str, size: int) -> str:
    return text.ljust(size) if text.isascii() else text + " " * (size - width(text))


def _rule(widths: Sequence[int], ends: str) -> str:
    left, middle, right = tuple(ends)
    return left + middle.join("─" * (size + 2) for size in widths) + right


def _merged_rule(widths: Sequence[int], melts: Sequence[bool]) -> str:
    joints = {(False, False): "┼", (False, True): "┤", (True, False): "├", (True, True): "│"}
    text = "│" if melts[0] else "├"
    for column, (size, melt) in enumerate(zip(widths, melts, strict=True)):
        text += (" " if melt else "─") * (size + 2)
        if column + 1 < len(widths):
            text += joints[melt, melts[column + 1]]
    return text + ("│" if melts[-1] else "┤")
