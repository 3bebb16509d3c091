"""`eru top`: what instances and nodes use, live."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import msgspec

from eru.cli import names, resolve
from eru.cli.cluster.figures import HEADS, NODE_HEADS, ORDERS, Meter, Use, cells, ordered, per_node
from eru.cli.exits import Exit, Problem, not_found, usage
from eru.cli.lazy import verb
from eru.cli.parse import choice, seconds
from eru.cli.session import Session
from eru.cli.show.columns import Column
from eru.cli.show.resources import opened
from eru.cli.show.table import render, width
from eru.cli.show.talk import counted
from eru.lib.tasks import task_owner
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

if TYPE_CHECKING:
    from eru.cli.tui.screen import Line

FIRST_SPAN_S = 1.0  # between the two looks of --once
UNIMPLEMENTED = 12
KEYS = {"c": "cpu", "m": "memory", "t": "network", "n": "name", "N": "node"}
_NUMBERS_FROM = 2  # columns that are right-aligned


@verb(
    "top",
    examples="""
eru top                     all instances, the busiest first
eru top shop --sort memory  one app; also app/entry, a name, an id
eru top nodes
eru top --once | head       one table, for pipes
""",
)
@click.argument("what", required=False, default="", shell_complete=names.apps_and_workloads)
@click.option("--node", default="", shell_complete=names.nodes, help="Only on this node.")
@click.option(
    *("--sort",),
    default="cpu",
    show_default=True,
    metavar="|".join(ORDERS),
    shell_complete=names.one_of(*ORDERS),
    help="What comes first.",
)
@click.option("--interval", default="2s", show_default=True, metavar="TIME", help="Between two looks.")
@click.option("--once", is_flag=True, help="One table, also on a terminal.")
async def top(session: Session, what: str, node: str, sort: str, interval: str, once: bool) -> int:
    """CPU and memory that instances really use, or nodes by the sum of their instances (`eru top nodes`).

    Keys: c, m, t, n, N sort by cpu, memory, traffic, name, node; r turns the order round; q ends it.
    """
    every_s = seconds("--interval", interval)
    if every_s < 0.5:
        raise usage(f"--interval {interval!r} is too short", hint="0.5s is the least")
    view = View(Source(session, what, node), choice("--sort", sort, list(ORDERS)))
    if once or not session.tables or not _on_terminal():
        return await _once(session, view)
    return await _live(session, view, every_s)


def _on_terminal() -> bool:
    from eru.cli.tui.screen import usable  # curses is only for terminals

    return usable()


class Source:
    """Looks at the counters again and again."""

    def __init__(self, session: Session, what: str, node: str) -> None:
        self.session = session
        self.what = what
        self.nodes = what == "nodes"
        self._asked = v1.StatsRequest(nodename=node)
        self._meter = Meter()
        self._cores: dict[str, float] = {}
        self._ready = False

    async def look(self) -> list[Use]:
        """A row per instance or node. Raises Problem when core cannot tell."""
        if not self._ready:
            await self._resolve()
        try:
            if self._cores:
                stats = await self.session.collect(rpc.Stats, self._asked)
            else:  # the first look takes twice as much, so both at once
                stats, _ = await asyncio.gather(self.session.collect(rpc.Stats, self._asked), self._grants())
        except RemoteError as error:
            if error.code != UNIMPLEMENTED:
                raise
            raise Problem(
                "this core gives no figures of use",
                why="it is older than this command, or a published one",
                hint="the agent of each node serves them for Prometheus: curl http://NODE:PORT/metrics (api.addr)",
            ) from None
        if any(stat.id not in self._cores for stat in stats):
            await self._grants()
        rows = self._meter.take(stats, self._cores)
        if not self.nodes:
            return rows
        asked = pb.ListNodesOptions(all=True, skip_info=True)
        nodes = await self.session.collect(rpc.ListPodNodes, asked)
        return per_node(rows, [each for each in nodes if self._asked.nodename in ("", each.name)])

    async def _resolve(self) -> None:
        self._ready = True
        if not self.what or self.nodes:
            return
        directory = resolve.Directory(self.session)
        if await directory.of_app(self.what):
            self._asked.appname, _, self._asked.entrypoint = self.what.partition("/")
        else:
            self._asked.ids.append((await resolve.one(directory, self.what)).id)

    async def _grants(self) -> None:
        asked = pb.ListWorkloadsOptions(appname=self._asked.appname, entrypoint=self._asked.entrypoint)
        for each in await self.session.collect(rpc.ListWorkloads, asked):
            self._cores[each.id] = float(opened(each.resources).get("cpumem", {}).get("cpu_limit") or 0)


@dataclass
class View:
    """What is on the screen: rows, their order, and where we are in them."""

    source: Source
    order: str
    backwards: bool = False
    rows: list[Use] = field(default_factory=list)
    first: int = 0
    trouble: str = ""

    @property
    def sorted(self) -> list[Use]:
        return ordered(self.rows, self.order, backwards=self.backwards)

    def table(self) -> tuple[list[str], list[list[str]]]:
        nodes = self.source.nodes
        return (NODE_HEADS if nodes else HEADS), [cells(row, node=nodes) for row in self.sorted]

    def key(self, key: str, page: int) -> bool:
        """Act on a key; False to end."""
        if key in ("q", "escape", "ctrl-c"):
            return False
        if key in KEYS:
            self.order, self.first = KEYS[key], 0
        elif key == "r":
            self.backwards = not self.backwards
        steps = {
            "up": -1,
            "down": 1,
            "page-up": -page,
            "page-down": page,
            "home": -len(self.rows),
            "end": len(self.rows),
        }
        self.first = min(max(self.first + steps.get(key, 0), 0), max(len(self.rows) - page, 0))
        return True

    def lines(self, rows: int) -> list[Line]:
        """The screen, `rows` high."""
        from eru.cli.tui.screen import BOLD, DIM, PLAIN, RED, REVERSE, Line

        heads, body = self.table()
        page = max(rows - 3, 1)
        shown = body[self.first : self.first + page]
        text = aligned([heads, *shown])
        title = f"{counted(len(body), 'node' if self.source.nodes else 'instance')} by {self.order}"
        broken = [row.error for row in self.sorted[self.first : self.first + page]]
        lines = [Line(f"{title}  {self.trouble}".rstrip(), RED if self.trouble else BOLD), Line(text[0], REVERSE)]
        lines += [Line(line, RED if error else PLAIN) for line, error in zip(text[1:], broken, strict=True)]
        lines += [Line("")] * (rows - 1 - len(lines))
        return [*lines, Line("c cpu  m memory  t traffic  n name  N node  r reverse  q quit", DIM)]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns without borders; numbers to the right."""
    widths = [max(width(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(_padded(cell, widths[at], at >= _NUMBERS_FROM) for at, cell in enumerate(row)) for row in rows]


def _padded(text: str, columns: int, right: bool) -> str:
    gap = " " * (columns - width(text))
    return gap + text if right else text + gap


async def _once(session: Session, view: View) -> int:
    """Two looks, one table."""
    started = session.world.clock.monotonic()
    await view.source.look()
    passed_s = session.world.clock.monotonic() - started  # in a large cluster a look is long enough for a rate
    await session.world.clock.sleep(max(FIRST_SPAN_S - passed_s, 0.0))
    view.rows = await view.source.look()
    heads, body = view.table()
    found = view.sorted
    if not found and view.source.nodes:
        raise not_found("there is no node to look at", hint="`eru node list` shows what there is")
    session.show(
        [_data(row) for row in found],
        lambda: render(heads, [[[cell] for cell in row] for row in body]),
        _ids(found),
        lambda: _columns(heads, body),
    )
    for error in sorted({row.error for row in found if row.error}):
        session.talk.warn(error)
    return Exit.ERROR if any(row.error for row in found) else Exit.OK


def _columns(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[Column]:
    """For a terminal: names and shares stay longest."""
    keep = {"NAME": 9, "NODE": 7, "CPU": 8, "CPU%": 6, "MEMORY": 8, "MEM%": 6}
    return [
        Column(head, [row[at] for row in body], matters=keep.get(head, 3), right=at >= _NUMBERS_FROM)
        for at, head in enumerate(heads)
    ]


def _data(row: Use) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(row)
    return data


def _ids(rows: Sequence[Use]) -> list[str]:
    return [row.id or row.name for row in rows]


async def _live(session: Session, view: View, every_s: float) -> int:
    from eru.cli.tui.screen import Screen

    view.rows = await view.source.look()
    with Screen() as screen:
        async with task_owner("top") as owner:
            looking = owner.start("look", _again(session, view, FIRST_SPAN_S))
            typing = owner.start("key", screen.key())
            while True:
                screen.draw(view.lines(screen.rows))
                await asyncio.wait({looking, typing}, return_when=asyncio.FIRST_COMPLETED)
                if typing.done():
                    if not view.key(typing.result(), max(screen.rows - 3, 1)):
                        return Exit.OK
                    typing = owner.start("key", screen.key())
                if looking.done():
                    looking.result()
                    looking = owner.start("look", _again(session, view, every_s))


async def _again(session: Session, view: View, pause_s: float) -> None:
    """Wait, then look; a core that does not answer leaves what was there, and says so."""
    await session.world.clock.sleep(pause_s)
    try:
        view.rows = await view.source.look()
        view.trouble = ""
    except RemoteError as error:
        view.trouble = str(error)
