"""`eru tui`: the cluster, live, in a terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress

import click

from eru.cli import names
from eru.cli.exits import Exit, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.settings import Settings
from eru.cli.tui.cluster import Cluster
from eru.cli.tui.feed import Feed
from eru.cli.tui.screen import GREEN, RED, Screen, usable
from eru.cli.tui.state import State, Text, Wish
from eru.cli.tui.views import Row
from eru.lib.tasks import TaskOwner, task_owner
from eru.model.errors import EruError

DRAW_EVERY_S = 0.1  # at most, when much changes
CLOCK_EVERY_S = 1.0  # ages grow
EVENTS_SHOWN = 500


@verb("tui", examples="eru tui\neru tui shop           only one app\neru --context prod tui")
@click.argument("app", required=False, default="", shell_complete=names.apps)
async def tui(session: Session, app: str) -> int:
    """The cluster, live: workloads, apps, nodes, pods, a tree; logs, shell, events, removal by one key. `?` helps."""
    return await run(session, app)


async def run(session: Session, app: str = "", *, words: str = "", labels: Mapping[str, str] | None = None) -> int:
    """The screen, until the user leaves it. `app` may be `app/entry`; `words`: the filter to begin with."""
    if not usable():
        raise usage("eru tui needs a terminal", hint="eru status --once, eru top --once and eru events print instead")
    await session.core()
    session.banner()
    session.talk.quiet, session.talk.verbose = True, False  # the screen is not to be written over
    shown = Tui(session, app, labels)
    shown.state.place.words = words
    return await shown.run()


class Tui:
    """Brings together the screen, the feed and the state."""

    def __init__(self, session: Session, app: str, labels: Mapping[str, str] | None = None) -> None:
        asked = session.settings
        self.session = session
        self.cluster = Cluster()
        self.feed = Feed(session, self.cluster, app.partition("/")[0], labels)
        self.state = State(self.cluster, where=asked.context or asked.eru, production=asked.production, app=app)
        self._under_way: asyncio.Task[None] | None = None

    async def run(self) -> int:
        clock = self.session.world.clock
        async with task_owner("tui") as owner:
            self.feed.start(owner)
            with Screen() as screen:
                typing = owner.start("key", screen.key())
                news = owner.start("news", self.feed.news.wait())
                while True:
                    self.feed.news.clear()
                    screen.draw(self.state.lines(screen.rows, clock.now(), screen.columns))
                    started = clock.monotonic()
                    await asyncio.wait({typing, news}, timeout=CLOCK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                    if typing.done():
                        wish = self.state.press(typing.result())
                        if wish is not None and wish.what == "quit":
                            return Exit.OK
                        if wish is not None:
                            await self._grant(owner, screen, wish)
                        typing = owner.start("key", screen.key())
                    elif news.done():
                        await asyncio.wait({typing}, timeout=DRAW_EVERY_S - (clock.monotonic() - started))
                    if news.done():
                        news = owner.start("news", self.feed.news.wait())

    async def _grant(self, owner: TaskOwner, screen: Screen, wish: Wish) -> None:
        row = wish.row
        if wish.what == "logs" and row is not None:
            await self._away(screen, ["logs", "-f", "--tail", "200", _word(row)], stays=True)
        elif wish.what == "shell" and row is not None:
            await self._away(screen, ["exec", "-i", _word(row), "sh"])
        elif wish.what == "describe" and row is not None:
            self._show(owner, f"{row.kind} {row.cells[0].strip()}", self._described(row))
        elif wish.what == "events":
            title = f"events of {row.cells[0].strip()}" if row is not None else "events"
            self._show(owner, title, self._happened(row))
        elif wish.what == "remove" and row is not None:
            self.state.say(f"removing {row.cells[0].strip()} ...")
            owner.start("remove", self._remove(row))

    # -- pages of text

    def _show(self, owner: TaskOwner, title: str, making: object) -> None:
        """A page that fills when what it is about has been found."""
        page = self.state.text = Text(title, ["..."])

        async def fill() -> None:
            try:
                page.lines = await making  # type: ignore[misc]
            except EruError as error:
                page.lines = [str(error)]
            self.feed.news.set()

        owner.start("page", fill())

    async def _described(self, row: Row) -> list[str]:
        from eru.cli.show.document import as_data, to_yaml
        from eru.wire import core_pb2 as pb
        from eru.wire import methods as rpc

        if row.kind == "instance":
            from eru.cli.cluster.why import life_lines

            workload = await self.session.unary(rpc.GetWorkload, pb.WorkloadID(id=row.key))
            return [*await life_lines(self.session, row.key), "", *to_yaml(as_data(workload)).splitlines()]
        if row.kind == "node":
            node = await self.session.unary(rpc.GetNode, pb.GetNodeOptions(nodename=row.key))
            return to_yaml(as_data(node)).splitlines()
        if row.kind == "pod":
            pod = await self.session.unary(rpc.GetPod, pb.GetPodOptions(name=row.key))
            return to_yaml(as_data(pod)).splitlines()
        app, _, entry = row.key.partition("/")
        mine = [each for each in self.cluster.instances.values() if each.app == app and entry in ("", each.entry)]
        return [f"{each.name}  {each.node}  {each.state}  {each.addresses}".rstrip() for each in mine]

    async def _happened(self, row: Row | None) -> list[str]:
        from eru.cli.cluster import history
        from eru.cli.cluster.timeline import Timeline
        from eru.wire import v1_pb2 as v1

        asked = v1.EventsRequest(limit=EVENTS_SHOWN)
        if row is not None and row.kind == "instance":
            asked.ids.append(row.key)
        elif row is not None and row.kind == "app":
            asked.appname, _, asked.entrypoint = row.key.partition("/")
        elif row is not None and row.kind == "node":
            asked.nodename = row.key
        try:
            found = await history.past(self.session, asked)
        except history.NoEvents:
            return ["this core keeps no events"]
        lines = Timeline(self.session, utc=self.session.settings.utc, absolute=False).lines(found)
        return list(reversed(lines)) or ["nothing is remembered"]

    # -- deeds

    async def _remove(self, row: Row) -> None:
        from eru.wire import core_pb2 as pb
        from eru.wire import methods as rpc

        name, failed = row.cells[0].strip(), "core gave no answer"
        try:
            async for answer in self.session.stream(
                rpc.RemoveWorkload, pb.RemoveWorkloadOptions(IDs=[row.key], force=True)
            ):
                failed = "" if answer.success else answer.hook or "core gives no reason"
        except EruError as error:
            failed = str(error)
        if failed:
            self.state.say(f"{name} was not removed: {failed}", RED)
        else:
            self.cluster.drop(row.key)
            self.state.say(f"{name} removed", GREEN)
        self.feed.look_again()
        self.feed.news.set()

    async def _away(self, screen: Screen, words: list[str], *, stays: bool = False) -> None:
        """Run another of our commands on the terminal, then come back. Ctrl-C is for it alone."""
        loop = asyncio.get_running_loop()
        with screen.away():
            before = signal.getsignal(signal.SIGINT)
            loop.add_signal_handler(signal.SIGINT, lambda: None)
            try:
                back = "Ctrl-C" if "-f" in words else "its end"
                told = f"$ {self.session.settings.program} {' '.join(words)}    ({back} leads back to the list)"
                print(f"\x1b[2J\x1b[H{told}", flush=True)
                child = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "eru", *words, env=child_environment(self.session.settings)
                )
                code = await child.wait()
                if code not in (0, Exit.INTERRUPTED, -signal.SIGINT) or (stays and code == 0):
                    await self._acknowledged(code)
            finally:
                loop.remove_signal_handler(signal.SIGINT)
                signal.signal(signal.SIGINT, before)

    async def _acknowledged(self, code: int) -> None:
        """Let the user read what was printed."""
        print(f"\n[ended with {code}; Enter goes back]", flush=True)
        with suppress(OSError):
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def _word(row: Row) -> str:
    return row.key


def child_environment(asked: Settings) -> dict[str, str]:
    """The environment in which another command of ours talks to the same cluster with the same login."""
    told = {
        "ERU": asked.eru,
        "ERU_USERNAME": asked.username,
        "ERU_PASSWORD": asked.password,
        "ERU_TLS": "1" if asked.tls else "",
        "ERU_TLS_CA": asked.tls_ca,
        "ERU_TLS_CERT": asked.tls_cert,
        "ERU_TLS_KEY": asked.tls_key,
        "ERU_TLS_SERVER_NAME": asked.tls_server_name,
        "ERU_CONTEXT": asked.context,
    }
    kept = {key: value for key, value in os.environ.items() if key not in told and key != "ERU_OUTPUT_FORMAT"}
    return kept | {key: value for key, value in told.items() if value}
