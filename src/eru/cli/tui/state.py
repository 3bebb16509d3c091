"""The screen as data: which list, where in it, what is being typed. Keys go in, lines and wishes come out."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from eru.cli.show.table import width
from eru.cli.show.talk import counted
from eru.cli.tui.cluster import Cluster
from eru.cli.tui.screen import BOLD, CYAN, DIM, PLAIN, RED, REVERSE, YELLOW, Line
from eru.cli.tui.views import VIEWS, Instances, Nodes, Row, Tree, View

HELP = """
↑ ↓ page-up page-down g G   move
enter       what is inside: instances of an app or a node; opens a branch of the tree
esc         back; takes a filter away
:           go to: workloads, apps, tree, nodes, pods, events, or the name of an app (w a t n p e are enough)
/           show only what contains these words
o           the next order: by name, state, node, age
l           logs, followed; of an app: of all its instances
s           a shell inside
d           describe: its life in five lines, and its record
e           events
r  ctrl-d   stop and remove, after asking
?           this page
q           quit; from a page, back
"""
# what a narrow terminal cuts off is in the help
KEYS = "? help  q quit  enter open  l logs  s shell  d describe  e events  / filter  : go to  o order  r remove"
JUMPS = {
    "w": "workloads", "workload": "workloads", "a": "apps", "app": "apps", "t": "tree", "n": "nodes", "node": "nodes",
    "p": "pods", "pod": "pods", "e": "events", "event": "events", "q": "quit",
}  # fmt: skip
MOVES = ("up", "down", "page-up", "page-down", "home", "end", "g", "G", "k", "j")
GAP = "  "


@dataclass(frozen=True)
class Wish:
    """Something that takes time or the terminal. `what`: quit, logs, shell, describe, events, remove."""

    what: str
    row: Row | None = None


@dataclass
class Place:
    """A list and where one is in it; kept to go back to."""

    view: View
    words: str = ""
    order: str = "name"
    key: str = ""  # of the chosen row: it stays chosen while others come and go
    at: int = 0
    top: int = 0


@dataclass
class Text:
    """A page of text over the list."""

    title: str
    lines: list[str] = field(default_factory=list)
    top: int = 0
    columns: int = 0  # of the screen; 0: endless

    @property
    def wrapped(self) -> list[str]:
        """The lines as they fit the screen; what goes on keeps its indentation."""
        if not self.columns:
            return self.lines
        return [part for line in self.lines for part in _wrapped(line, self.columns)]


class State:
    """Everything but the terminal and the connection."""

    def __init__(self, cluster: Cluster, *, where: str, production: bool = False, app: str = "") -> None:
        self.cluster = cluster
        self.where = where
        self.production = production
        self.place = Place(Instances(app))
        self.past: list[Place] = []
        self.text: Text | None = None
        self.prompt = ""  # ":" or "/" while something is typed
        self.typed = ""
        self.asking: Row | None = None  # about its removal
        self.note = ""  # what the last action said
        self.note_style = PLAIN
        self.page = 20  # rows in sight
        self._items: Sequence[object] = ()
        self._made_of: tuple[object, ...] = ()
        self._widths: dict[str, list[int]] = {}

    # -- what there is

    def items(self) -> Sequence[object]:
        """The rows of the list, made anew only when something changed."""
        place = self.place
        branches = tuple(sorted(place.view.open)) if isinstance(place.view, Tree) else ()
        made_of = (self.cluster.version, place.view, place.words, place.order, branches)
        if made_of != self._made_of:
            self._items = place.view.items(self.cluster, place.words, place.order)
            self._made_of = made_of
            self._find_again()
        return self._items

    def _find_again(self) -> None:
        """Keep the chosen row chosen, wherever it has moved to."""
        place = self.place
        if place.key:
            near = range(max(place.at - 50, 0), min(place.at + 50, len(self._items)))
            for at in [*near, *range(len(self._items))]:
                if self._key(self._items[at]) == place.key:
                    place.at = at
                    break
        place.at = min(max(place.at, 0), max(len(self._items) - 1, 0))

    def _key(self, item: object) -> str:
        return str(getattr(item, "id", "") or getattr(item, "key", "") or getattr(item, "name", "") or item)

    def chosen(self) -> Row | None:
        """The row under the cursor."""
        items = self.items()
        return self.place.view.row(self.cluster, items[self.place.at], 0.0) if items else None

    # -- keys

    def press(self, key: str) -> Wish | None:
        """Act on a key."""
        self.note = "" if key != "resize" else self.note
        if key == "resize":
            return None
        if self.asking is not None:
            return self._answer(key)
        if self.prompt:
            return self._type(key)
        if self.text is not None:
            return self._read(self.text, key)
        if key in MOVES:
            self._move(key)
            return None
        return self._command(key)

    def _answer(self, key: str) -> Wish | None:
        row, self.asking = self.asking, None
        if key == "y":
            return Wish("remove", row)
        self.say("nothing was removed")
        return None

    def _type(self, key: str) -> Wish | None:
        if key == "enter":
            prompt, typed = self.prompt, self.typed
            self.prompt = self.typed = ""
            return self._jump(typed.strip()) if prompt == ":" else None
        if key in ("escape", "ctrl-c"):
            if self.prompt == "/":
                self.place.words = ""
            self.prompt = self.typed = ""
        elif key == "backspace":
            if not self.typed:
                self.prompt = ""
            self.typed = self.typed[:-1]
        elif len(key) == 1:
            self.typed += key
        if self.prompt == "/" and self.place.words != self.typed:
            self.place.words = self.typed
            self.place.key, self.place.at = "", 0  # what fits begins at the top
        return None

    def _read(self, text: Text, key: str) -> Wish | None:
        if key in ("q", "escape", "enter", "left"):
            self.text = None
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page-up": -self.page, "page-down": self.page, " ": self.page}
        count = len(text.wrapped)
        steps |= {"home": -count, "g": -count, "end": count, "G": count}
        text.top = min(max(text.top + steps.get(key, 0), 0), max(count - self.page, 0))
        return None

    def _move(self, key: str) -> None:
        count = len(self.items())
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page-up": -self.page, "page-down": self.page}
        steps |= {"home": -count, "g": -count, "end": count, "G": count}
        place = self.place
        place.at = min(max(place.at + steps[key], 0), max(count - 1, 0))
        place.key = self._key(self.items()[place.at]) if count else ""

    def _command(self, key: str) -> Wish | None:
        if key in (":", "/"):
            self.prompt, self.typed = key, self.place.words if key == "/" else ""
        elif key == "?":
            self.text = Text("keys", HELP.strip().splitlines())
        elif key == "o":
            orders = self.place.view.orders
            self.place.order = orders[(orders.index(self.place.order) + 1) % len(orders)]
        elif key in ("escape", "left"):
            self._back()
        elif key in ("enter", "right"):
            self._open()
        elif key == "q":
            return Wish("quit")
        else:
            return self._act(key)
        return None

    def _act(self, key: str) -> Wish | None:
        what = {"l": "logs", "s": "shell", "d": "describe", "e": "events", "r": "remove", "ctrl-d": "remove"}.get(key)
        row = self.chosen()
        if what is None:
            return None
        if row is None:
            self.say("nothing is chosen", RED)
            return None
        if what in ("shell", "remove") and row.kind not in (("instance", "app") if what == "shell" else ("instance",)):
            self.say(f"{what} is for {'instances and apps' if what == 'shell' else 'single instances'}", RED)
            return None
        if what == "logs" and row.kind not in ("instance", "app"):
            self.say("logs are of instances and apps", RED)
            return None
        if what == "remove":
            self.asking = row
            return None
        return Wish(what, row)

    def _back(self) -> None:
        if self.place.words:
            self.place.words = ""
        elif self.past:
            self.place = self.past.pop()

    def _open(self) -> None:
        row = self.chosen()
        view = self.place.view
        if row is None:
            return
        if isinstance(view, Tree) and row.kind == "app":
            view.toggle(row.key)
            self.place.key = row.key
        elif row.kind == "app":
            self._go(Instances(row.key))
        elif row.kind == "node":
            self._go(Instances("@" + row.key))
        elif row.kind == "pod":
            self._go(Nodes(row.key))

    def _go(self, view: View) -> None:
        self.past.append(self.place)
        self.place = Place(view)

    def _jump(self, word: str) -> Wish | None:
        name = JUMPS.get(word.lower(), word.lower())
        if name == "quit":
            return Wish("quit")
        if name == "events":
            return Wish("events")
        if name in VIEWS:
            self._go(VIEWS[name]())
        elif any(word in (each.app, f"{each.app}/{each.entry}") for each in self.cluster.instances.values()):
            self._go(Instances(word))
        elif word in self.cluster.nodes:
            self._go(Instances("@" + word))
        elif word:
            self.say(f"there is no list, app or node {word!r}; lists are {', '.join(VIEWS)}, events", RED)
        return None

    def say(self, text: str, style: int = PLAIN) -> None:
        """Shown until the next key."""
        self.note, self.note_style = text, style

    # -- lines

    def lines(self, rows: int, now_s: float, columns: int = 0) -> list[Line]:
        """The whole screen, `rows` high; `columns` wide, or as wide as it needs."""
        self.page = max(rows - 3, 1)
        if self.text is not None:
            self.text.columns = columns
            body = [Line(line) for line in self.text.wrapped[self.text.top : self.text.top + rows - 2]]
            head = Line(f"{self.text.title}   (esc: back)", BOLD)
        else:
            body, head = self._list(now_s), self._head()
        body = [*body, *([Line("")] * max(rows - 2 - len(body), 0))]
        return [head, *body[: rows - 2], self._foot()]

    def _head(self) -> Line:
        count = len(self.items())
        healthy = sum(each.state == "healthy" for each in self.cluster.instances.values())
        all_ = len(self.cluster.instances)
        more = "" if self.cluster.complete else "…"
        mark = "PRODUCTION  " if self.production else ""
        filtered = f"  /{self.place.words}" if self.place.words else ""
        sums = f"{healthy} of {counted(all_, 'instance')} healthy"
        text = f"{mark}{self.where}  {self.place.view.title} {count}{more}  {sums}"
        order = f"  by {self.place.order}" if len(self.place.view.orders) > 1 else ""
        spans = [(0, mark, RED)] if mark else []
        return Line(f"{text}{order}{filtered}", BOLD, spans)

    def _list(self, now_s: float) -> list[Line]:
        items = self.items()
        place = self.place
        place.top = min(max(place.top, place.at - self.page + 1, 0), place.at, max(len(items) - self.page, 0))
        shown = [place.view.row(self.cluster, item, now_s) for item in items[place.top : place.top + self.page]]
        widths = self._widths.setdefault(place.view.title, [width(head) for head in place.view.heads])
        for row in shown:
            for column, cell in enumerate(row.cells):
                widths[column] = max(widths[column], min(width(cell), 60))
        lines = [Line(_joined(place.view.heads, widths), DIM)]
        for offset, row in enumerate(shown):
            chosen = place.top + offset == place.at
            lines.append(Line(_joined(row.cells, widths), REVERSE if chosen else PLAIN, _spans(row, widths, chosen)))
        if not shown and self.cluster.complete:
            lines.append(Line("nothing here" + (" matches; esc takes the filter away" if place.words else ""), DIM))
        return lines

    def _foot(self) -> Line:
        if self.asking is not None:
            name = self.asking.cells[0].strip()
            danger = " of a PRODUCTION cluster" if self.production else ""
            return Line(f"stop and remove {name}{danger}? y: yes, any other key: no", RED)
        if self.prompt:
            return Line(f"{self.prompt}{self.typed}▏", CYAN)
        if self.note:
            return Line(self.note, self.note_style)
        if self.cluster.trouble:
            return Line(self.cluster.trouble, YELLOW)
        return Line(KEYS, DIM)


def _wrapped(line: str, columns: int) -> list[str]:
    if width(line) <= columns:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    parts = textwrap.wrap(line, columns, subsequent_indent=indent, drop_whitespace=False, replace_whitespace=False)
    return parts or [""]


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(cell + " " * (size - width(cell)) for cell, size in zip(cells, widths, strict=True)).rstrip()


def _spans(row: Row, widths: Sequence[int], chosen: bool) -> list[tuple[int, str, int]]:
    """The state in its colour; the whole row of something that needs a look is not painted, only that word."""
    if chosen or not row.style:
        return []
    column = 0
    for cell, size in zip(row.cells, widths, strict=True):
        if cell in ("healthy", "running", "stopped", "unreported", "up", "down", "bypassed") or "healthy" in cell:
            return [(column, cell, row.style)]
        column += size + len(GAP)
    return [(0, row.cells[0], row.style)]
