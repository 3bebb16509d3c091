"""Lists for people: one line per thing, as wide as the terminal, what matters kept.

For a terminal (columns that matter least are shortened, then left out) and
for `-o wide` (every column, whole). What is piped keeps the published boxes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TextIO

from eru.cli.show.table import width

GAP = "  "
CUT = "…"
WIDTH_LEAST = 40  # columns; a terminal that claims less is not believed


@dataclass(frozen=True)
class Column:
    """One column: a cell per thing.

    `matters`: the lowest is shortened and left out first; 9 is always kept.
    `least`: what it may be shortened to, 0 for never. `wide`: only in `-o
    wide`. `brief`: what a terminal shows instead of a cell, for example the
    beginning of an id. `colour`: of a cell, "" for none.
    """

    head: str
    cells: Sequence[str]
    matters: int = 5
    least: int = 0
    wide: bool = False
    right: bool = False
    brief: Callable[[str], str] | None = None
    colour: Callable[[str], str] | None = None

    def size(self, cells: Sequence[str]) -> int:
        """Columns on the screen that `cells` need."""
        return max([width(self.head), *(width(cell) for cell in cells)])


def wide(columns: Sequence[Column]) -> str:
    """Everything, whole and without colour; "" for no things."""
    shown = [(column, list(column.cells), column.size(column.cells)) for column in columns]
    return _lines(shown, paint=False) if columns and columns[0].cells else ""


def fitted(columns: Sequence[Column], screen: int, *, paint: bool) -> str:
    """As much as fits into `screen` columns; "" for no things."""
    kept = [column for column in columns if not column.wide and (column.matters == 9 or any(column.cells))]
    if not kept or not kept[0].cells:
        return ""
    cells = {id(each): [each.brief(cell) if each.brief else cell for cell in each.cells] for each in kept}
    sizes = {id(each): each.size(cells[id(each)]) for each in kept}
    by_weight = sorted(kept, key=lambda each: each.matters)

    def excess() -> int:
        return sum(sizes[id(each)] for each in kept) + len(GAP) * (len(kept) - 1) - max(screen, WIDTH_LEAST)

    for each in by_weight:
        if each.least and excess() > 0:
            sizes[id(each)] = min(sizes[id(each)], max(each.least, width(each.head), sizes[id(each)] - excess()))
    for each in by_weight:
        if each.matters < 9 and excess() > 0:
            kept.remove(each)
    for each in reversed(by_weight):  # what was shortened for a column that left gets its room back
        if each in kept and excess() < 0:
            sizes[id(each)] = min(each.size(cells[id(each)]), sizes[id(each)] - excess())
    return _lines([(each, cells[id(each)], sizes[id(each)]) for each in kept], paint=paint)


def _lines(shown: Sequence[tuple[Column, Sequence[str], int]], *, paint: bool) -> str:
    last = shown[-1][0]
    rows = []
    heads = [_cell(column, column.head, size, column is last, "") for column, _, size in shown]
    rows.append(GAP.join(heads).rstrip())
    for row in zip_longest(*(cells for _, cells, _ in shown), fillvalue=""):
        texts = []
        for (column, _, size), cell in zip(shown, row, strict=True):
            colour = column.colour(cell) if paint and column.colour else ""
            texts.append(_cell(column, cell, size, column is last, colour))
        rows.append(GAP.join(texts).rstrip())
    return "\n".join(rows) + "\n"


def _cell(column: Column, text: str, size: int, last: bool, colour: str) -> str:
    text = cut(text, size)
    blank = " " * (size - width(text))
    painted = f"\x1b[{colour}m{text}\x1b[0m" if colour and text else text
    if column.right:
        return blank + painted
    return painted if last else painted + blank


def cut(text: str, size: int) -> str:
    """`text` in at most `size` columns, with a mark where something is missing."""
    if width(text) <= size:
        return text
    while text and width(text) > size - 1:
        text = text[:-1]
    return text + CUT


def screen_width(out: TextIO) -> int:
    """Columns of the terminal; COLUMNS says otherwise."""
    if (said := os.environ.get("COLUMNS", "")).isdigit() and int(said) > 0:
        return int(said)
    try:
        return os.get_terminal_size(out.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
