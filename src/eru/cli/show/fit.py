"""Boxes that fit a terminal: the widest columns are wrapped. What is piped never comes here."""

from __future__ import annotations

from itertools import zip_longest

from eru.cli.show.table import width

LEAST = 10  # columns; no column is wrapped into less
_RULES = set("┌┬┐├┼┤└┴┘─│ ")


def boxes(text: str, screen: int) -> str:
    """`text` with every box in it at most `screen` wide, as far as that can be read."""
    out: list[str] = []
    box: list[str] = []
    for line in text.splitlines():
        if line.startswith("┌"):
            box = [line]
        elif box:
            box.append(line)
            if line.startswith("└"):
                out += _fitted(box, screen)
                box = []
        else:
            out.append(line)
    return "".join(f"{line}\n" for line in [*out, *box])


def _fitted(box: list[str], screen: int) -> list[str]:
    """One box; as it is if it fits, or if a cell holds what only frames should."""
    sizes = [len(part) - 2 for part in box[0].strip("┌┐").split("┬")]
    if width(box[0]) <= screen:
        return box
    rows = [line.strip("│").split("│") for line in box if not _is_rule(line)]
    if any(len(row) != len(sizes) for row in rows):
        return box
    fresh = list(sizes)
    while sum(fresh) + 3 * len(fresh) + 1 > screen and max(fresh) > LEAST:
        fresh[fresh.index(max(fresh))] -= 1
    out: list[str] = []
    for line in box:
        if _is_rule(line):
            out.append(_rule(line, sizes, fresh))
            continue
        row = zip(line.strip("│").split("│"), fresh, strict=True)
        cells = [_wrapped(cell[1:].rstrip(), size) for cell, size in row]
        for parts in zip_longest(*cells, fillvalue=""):
            padded = (f" {part}{' ' * (size - width(part))} " for part, size in zip(parts, fresh, strict=True))
            out.append(f"│{'│'.join(padded)}│")
    return out


def _is_rule(line: str) -> bool:
    return "─" in line and set(line) <= _RULES


def _rule(line: str, sizes: list[int], fresh: list[int]) -> str:
    """The same joints with other lengths between them."""
    out, at = line[0], 1
    for old, new in zip(sizes, fresh, strict=True):
        out += line[at] * (new + 2) + line[at + old + 2]
        at += old + 3
    return out


def _wrapped(text: str, size: int) -> list[str]:
    """`text` in lines of at most `size`, broken at spaces where there are any."""
    if width(text) <= size:
        return [text]
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if width(joined) <= size:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for char in word:
            if width(lines[-1] + char) > size:
                lines.append("")
            lines[-1] += char
    return lines
