"""One command's connection to core, its voice and its output."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog
from google.protobuf.message import Message

from eru.cli.exits import usage
from eru.cli.hints import hint
from eru.cli.settings import FLAG, TEMPLATE, Settings
from eru.cli.show import document
from eru.cli.show.columns import Column, fitted, screen_width, wide
from eru.cli.show.fit import boxes
from eru.cli.show.talk import Talk, wants_colour
from eru.lib.world import World, real_world
from eru.model.errors import CoreUnreachable, RemoteError
from eru.wire.channel import CoreClient, connect
from eru.wire.client_tls import ClientTLS
from eru.wire.limits import CONNECT_TIMEOUT_S
from eru.wire.methods import Method, StreamStream, UnaryStream, UnaryUnary

Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)

LONG_CALL_S = 600.0  # calls that may have to wait for an engine; the user can interrupt any of them


class Session:
    """What a command works with. Nothing is connected before the first call."""

    def __init__(self, settings: Settings, world: World | None = None) -> None:
        self.settings = settings
        self.world = world or real_world()
        self.talk = Talk(quiet=settings.quiet, verbose=settings.verbose, program=settings.program)
        self.captured: list[str] | None = None  # what would be written, while somebody collects it
        self.intercept: Callable[[Any, Sequence[str]], None] | None = None  # takes results instead of the output
        self._core: CoreClient | None = None
        self._password: str | None = None
        self._warned = False
        if not settings.verbose:
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._core is not None:
            await self._core.close()

    async def core(self) -> CoreClient:
        """The connection, opened by the first who asks."""
        if self._core is None:
            self._core = await self.client(self.settings.eru).__aenter__()
        return self._core

    def client(self, address: str, *, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> CoreClient:
        """A connection of its own, with our login, to just the core at `address`; the caller closes it."""
        asked = self.settings
        if asked.context:
            self.talk.detail(f"context {asked.context}, core {address}")
        return connect(
            address,
            world=self.world,
            username=asked.username,
            password=self._login(),
            tls=_tls(asked),
            connect_timeout_s=connect_timeout_s,
            call_timeout_s=LONG_CALL_S,
        )

    # -- calls

    async def unary(self, method: UnaryUnary[Req, Resp], request: Req, *, timeout_s: float | None = None) -> Resp:
        """One answer; raises RemoteError."""
        self._changes(method, request)
        core, started = await self.core(), self.world.clock.monotonic()
        result = "ok"
        try:
            return await core.unary(method, request, timeout_s=timeout_s)
        except RemoteError as error:
            result = f"code {error.code}"
            self._note(error)
            raise
        finally:
            self._trace(method, started, result)

    async def stream(
        self, method: UnaryStream[Req, Resp], request: Req, *, timeout_s: float | None = None
    ) -> AsyncGenerator[Resp, None]:
        """Answers as they come; raises RemoteError."""
        self._changes(method, request)
        core = await self.core()
        async with aclosing(core.stream(method, request, timeout_s=timeout_s)) as answers:
            async for answer in self._counted(method, answers):
                yield answer

    async def both(
        self, method: StreamStream[Req, Resp], requests: AsyncIterable[Req], *, tty: bool = True
    ) -> AsyncGenerator[Resp, None]:
        """Sends and receives at the same time; raises RemoteError."""
        self._changes(method, None)
        core = await self.core()
        async with aclosing(core.both(method, requests, tty=tty)) as answers:
            async for answer in self._counted(method, answers):
                yield answer

    async def collect(
        self, method: UnaryStream[Req, Resp], request: Req, *, timeout_s: float | None = None
    ) -> list[Resp]:
        """A whole stream."""
        async with aclosing(self.stream(method, request, timeout_s=timeout_s)) as answers:
            return [answer async for answer in answers]

    async def _counted(
        self, method: Method[Any, Any], answers: AsyncGenerator[Resp, None]
    ) -> AsyncGenerator[Resp, None]:
        started, count, result = self.world.clock.monotonic(), 0, "ok"
        try:
            async for answer in answers:
                count += 1
                yield answer
        except RemoteError as error:
            result = f"code {error.code}"
            self._note(error)
            raise
        finally:
            self._trace(method, started, f"{result}, {count} messages")

    @property
    def where(self) -> str:
        """The cluster in words, for questions: ` in context prod (production)`; "" without a context."""
        if not self.settings.context:
            return ""
        return f" in context {self.settings.context}{' (production)' if self.settings.production else ''}"

    def banner(self) -> None:
        """Say once, on a terminal, that what follows is done to production."""
        if not self.settings.production or self._warned:
            return
        self._warned = True
        self.talk.banner(f" PRODUCTION  context {self.settings.context} · {self.settings.eru} ")

    def _changes(self, method: Method[Any, Any], request: Message | None) -> None:
        """Every call that changes something is preceded by the banner."""
        if not (method.safe or (request is not None and not getattr(request, "fix", True))):
            self.banner()

    def _login(self) -> str:
        """The password; a context's is fetched once, and only when there is a connection to make."""
        asked = self.settings
        if self._password is None:
            held = asked.secret if asked.username else None
            self._password = asked.password if held is None else held.read(asked.context)
        return self._password

    def _note(self, error: RemoteError) -> None:
        """A hint that only we can give: a failed handshake looks like a core that is not there."""
        if isinstance(error, CoreUnreachable) and _tls(self.settings) is not None:
            found = hint(str(error), self.settings.program)
            error.add_note(found or "with TLS, core must have it on, and --tls-ca must have signed its certificate")

    def _trace(self, method: Method[Any, Any], started: float, result: str) -> None:
        self.talk.call(method.name, self.world.clock.monotonic() - started, result)

    # -- output

    @property
    def tables(self) -> bool:
        """Whether tables are wanted, rather than documents."""
        return self.settings.output in ("table", "wide")

    @property
    def screen(self) -> bool:
        """Whether standard output is a terminal that our own forms are meant for."""
        return sys.stdout.isatty() and not self.settings.published and os.environ.get("TERM") != "dumb"

    def screen_size(self) -> os.terminal_size:
        """Of the terminal that standard output is."""
        try:
            lines = os.get_terminal_size(sys.stdout.fileno()).lines or 24
        except (OSError, ValueError):
            lines = 24
        return os.terminal_size((screen_width(sys.stdout), lines))

    def write(self, text: str) -> None:
        """Text for standard output, as it is."""
        if self.captured is not None:
            self.captured.append(text)
            return
        sys.stdout.write(text)
        sys.stdout.flush()

    def show(
        self,
        data: Any,
        table: Callable[[], str],
        names: Sequence[str] = (),
        columns: Callable[[], Sequence[Column]] | None = None,
    ) -> None:
        """One result: a table, or the document of `data`, or its `names` one per line.

        `columns` are the same as a list that fits a terminal, and for `-o
        wide`; without them both show the table.
        """
        output = self.settings.output
        if self.intercept is not None:
            self.intercept(data, names)
        elif self.settings.fields and output in ("json", "jsonl", "yaml"):
            self._documents(document.selected(data, self.settings.fields))
        elif output == "wide" and columns is not None:
            self.write(wide(columns()))
        elif output == "table" and columns is not None and self.screen:
            self.write(fitted(columns(), self.screen_size().columns, paint=wants_colour(sys.stdout)))
        elif output in ("table", "wide"):
            self.write(boxes(table(), self.screen_size().columns) if self.screen else table())
        elif output == "name":
            self.write("".join(f"{name}\n" for name in names))
        else:
            self._documents(data)

    def report(self, data: Any, table: Callable[[], str], names: Sequence[str] = ()) -> None:
        """As `show`, of something that was done rather than asked for.

        The drop-in says it on standard error, where its scripts expect
        nothing to parse, unless the command line asks for a format.
        """
        if self.settings.published and self.settings.sources.get("output") != FLAG and not self.settings.fields:
            text = table()
            if text:
                self.talk.say(text.rstrip("\n"))
        else:
            self.show(data, table, names)

    def show_each(
        self,
        data: Sequence[Any],
        table: Callable[[], str],
        names: Sequence[str] = (),
        columns: Callable[[], Sequence[Column]] | None = None,
    ) -> None:
        """Like `show`; the drop-in has one document after the other instead of a list, as the published program."""
        one_by_one = self.settings.published and self.settings.output in ("json", "yaml")
        if one_by_one and self.intercept is None and not self.settings.fields:
            for item in data:
                self.document(item)
        else:
            self.show(list(data), table, names, columns)

    def item(self, data: Any, name: str = "") -> None:
        """One of those that come one by one, as long as anybody looks: a document of its own, or its name."""
        if self.settings.output == "name" and not self.settings.published:
            self.write(f"{name}\n" if name else "")
            return
        if self.settings.output == "yaml" and not self.settings.published:
            self.write("---\n")
        self.document(data)

    def _documents(self, data: Any) -> None:
        """All in one, or one per line."""
        if self.settings.output == "jsonl" and isinstance(data, list):
            for item in data:
                self.document(item)
        else:
            self.document(data)

    def document(self, data: Any) -> None:
        """One document in the wanted format."""
        if self.settings.output.startswith(TEMPLATE):
            from eru.cli.show import template

            self.write(template.lines(data, self.settings.output.removeprefix(TEMPLATE)))
            return
        if self.settings.expand:
            data = document.expanded(data)
        if self.settings.output == "yaml":
            self.write(document.to_yaml(data))
        else:
            self.write(document.to_json(data, indent=None if self.settings.output == "jsonl" else 2))


def _tls(asked: Settings) -> ClientTLS | None:
    if not (asked.tls or asked.tls_ca or asked.tls_cert or asked.tls_key):
        return None
    if bool(asked.tls_cert) != bool(asked.tls_key):
        given, lacking = ("--tls-cert", "--tls-key") if asked.tls_cert else ("--tls-key", "--tls-cert")
        raise usage(f"{given} is given without {lacking}", hint="a certificate and its private key go together")
    if asked.tls_cert:
        _matching(asked.tls_cert, asked.tls_key)
    return ClientTLS(
        ca=_read("--tls-ca", asked.tls_ca),
        cert=_read("--tls-cert", asked.tls_cert),
        key=_read("--tls-key", asked.tls_key),
        server_name=asked.tls_server_name,
    )


def _matching(cert: str, key: str) -> None:
    """Refuse a pair that grpc would not survive."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key)
    except ssl.SSLError as error:
        reason = (error.reason or "not usable").replace("_", " ").lower()
        hint = "give a certificate and its own private key, both as PEM files, the key without a password"
        raise usage(f"--tls-cert {cert} and --tls-key {key} are not a pair: {reason}", hint=hint) from None
    except OSError as error:
        raise usage(f"--tls-cert {cert}, --tls-key {key}: {error.strerror}") from None


def _read(option: str, path: str) -> bytes:
    if not path:
        return b""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise usage(f"{option} {path}: {error.strerror or error}", hint="give the path of a PEM file") from None
    if b"-----BEGIN" not in data:
        raise usage(f"{option} {path} is not a PEM file")
    return data
