"""Groups that load a command only when it is used, and commands with our habits.

Habits: global options may stand anywhere, `-long` is `--long`, a switch takes
`=true` and `=false`, unknown words get a suggestion, help begins with
examples, and the body is an async function that receives a `Session`.
"""

from __future__ import annotations

import functools
import importlib
import re
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from eru.cli.settings import Settings, complete_format, format_name

Body = Callable[..., Awaitable[int | None]]
_LONG = re.compile(r"-([a-z][a-z0-9_-]+)(=.*)?")
_TRUTH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
_GLOBAL = "_global_"


class Examples:
    """Help that starts with examples."""

    examples: str = ""

    def write_examples(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = [line for line in self.examples.strip().splitlines() if line.strip()]
        if not lines:
            return
        program = ctx.find_root().info_name or "eru"
        with formatter.section("Examples"):
            for line in lines:
                text = line.strip()
                formatter.write(f"{'':>{formatter.current_indent}}{re.sub(r'^eru ', program + ' ', text)}\n")


class Shown(Examples, click.Command):
    """A plain command whose help begins with examples."""

    def __init__(self, *args: Any, examples: str = "", **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.examples = examples

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_usage(ctx, formatter)
        self.write_examples(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)


class LazyGroup(Examples, click.Group):
    """A group whose commands are named as `module:attribute` and imported on use.

    `lazy`: name -> (import string, one line of help); `aliases`: other name ->
    name. `sections`: title -> commands, for help; `plugins`: unknown words may
    be programs of others.
    """

    def __init__(
        self,
        *args: Any,
        lazy: dict[str, tuple[str, str]] | None = None,
        aliases: dict[str, str] | None = None,
        examples: str = "",
        sections: Mapping[str, Sequence[str]] | None = None,
        plugins: bool = False,
        **attrs: Any,
    ) -> None:
        super().__init__(*args, **attrs)
        self.lazy = dict(lazy or {})
        self.aliases = dict(aliases or {})
        self.examples = examples
        self.sections = dict(sections or {})
        self.plugins = plugins

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _told_by(ctx):
            return super().parse_args(ctx, _as_published(self.params, args, tail=True))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *(name for name in self.commands if name not in self.lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = self.aliases.get(cmd_name, cmd_name)
        if name in self.lazy:
            module, _, attribute = self.lazy[name][0].partition(":")
            command = getattr(importlib.import_module(module), attribute)
            if not isinstance(command, click.Command):
                raise TypeError(f"{self.lazy[name][0]} is not a command")
            return command
        if name not in self.commands and self.plugins:
            from eru.cli import plugins

            path = plugins.find(name)
            return plugins.Plugin(name, path) if path else None
        return self.commands.get(name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        found = super().shell_complete(ctx, incomplete)
        if self.plugins and not incomplete.startswith("-"):
            from click.shell_completion import CompletionItem

            from eru.cli import plugins

            found += [CompletionItem(name) for name in plugins.names() if name.startswith(incomplete)]
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word in ("help", "h") and not ctx.resilient_parsing:
            return self._help(ctx, args[1:])
        command = self.get_command(ctx, word)
        if command is None and not ctx.resilient_parsing:
            from eru.cli.elsewhere import meant

            kind = "command" if ctx.parent is None else f"{ctx.info_name} command"
            raise click.UsageError(f"there is no {kind} {word!r}", ctx) from UnknownWord(meant(ctx, self, word))
        return word, command, args[1:]

    def _help(self, ctx: click.Context, words: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """`help`, `help pod add`: as `pod add --help`."""
        if not words:
            click.echo(ctx.get_help())
            ctx.exit(0)
        if ctx.parent is None and words in (["options"], ["--man"], ["man"]):
            from eru.cli import manual

            click.echo(manual.options(self, ctx) if words == ["options"] else manual.page(self, ctx))
            ctx.exit(0)
        name, command, rest = self.resolve_command(ctx, words)
        return name, command, [*rest, "--help"]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.write_examples(ctx, formatter)
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands first; options that are rarely needed are on a page of their own."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)
        if any(isinstance(param, Rare) for param in self.params):
            formatter.write_paragraph()
            formatter.write_text(f"`{ctx.info_name} help options` has all options, `help --man` everything.")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        left = list(self.list_commands(ctx))
        for title, names in self.sections.items():
            shown = [name for name in names if name in left]
            left = [name for name in left if name not in shown]
            self._write_commands(formatter, title, shown)
        self._write_commands(formatter, "More" if self.sections else "Commands", left)
        if self.plugins:
            from eru.cli import plugins

            found = plugins.names()
            if found:
                with formatter.section("Plug-ins"):
                    formatter.write_dl([(name, f"the program {plugins.PREFIX}{name}") for name in found])

    def _write_commands(self, formatter: click.HelpFormatter, title: str, names: Sequence[str]) -> None:
        rows = []
        for name in names:
            others = [alias for alias, meant in self.aliases.items() if meant == name]
            short = self.lazy[name][1] if name in self.lazy else self.commands[name].get_short_help_str()
            rows.append((", ".join([name, *others]), short))
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


class Rare(click.Option):
    """An option that help leaves to a page of its own."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return super().get_help_record(ctx) if ctx.meta.get("eru.all options") else None


class UnknownWord(Exception):
    """Carries the suggestion for a word nobody knows."""


@contextmanager
def _told_by(ctx: click.Context) -> Iterator[None]:
    """Wrong usage is told of the command that was typed, also where the parser leaves that out."""
    try:
        yield
    except click.UsageError as error:
        if error.ctx is None:
            error.ctx = ctx
        raise


class Verb(Examples, click.Command):
    """One command. `tail`: everything after the first argument belongs to a remote command."""

    def __init__(self, *args: Any, examples: str = "", tail: bool = False, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.examples = examples
        self.tail = tail
        if tail:
            self.allow_interspersed_args = False
        self._add_globals()

    def _add_globals(self) -> None:
        """Accept the global options here too, unless the command uses the letter for something else."""
        taken = {opt for param in self.params for opt in param.opts}
        for name, opts, attrs in _anywhere():
            free = [opt for opt in opts if opt not in taken]
            if any(opt.startswith("--") for opt in free):
                self.params.append(click.Option([*free, _GLOBAL + name], hidden=True, **attrs))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _told_by(ctx):
            return super().parse_args(ctx, _as_published(self.params, args, tail=self.tail))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_usage(ctx, formatter)
        self.write_examples(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)


class Pod(click.Option):
    """`--pod` of a command that makes something: without it, the pod of the context."""


def _as_published(params: Sequence[click.Parameter], args: list[str], *, tail: bool) -> list[str]:
    """Accept what the published parser accepts: `-long`, `-s=value`, `--switch=true`."""
    options = {opt: param for param in params if isinstance(param, click.Option) for opt in param.opts}
    out: list[str] = []
    awaited = False  # whether the next word is the value of the option before it
    for index, arg in enumerate(args):
        if awaited:
            out.append(arg)
            awaited = False
            continue
        if arg == "--" or (tail and not arg.startswith("-")):
            return out + args[index:]
        match = _LONG.fullmatch(arg)
        if match and f"--{match[1]}" in options:
            arg = f"-{arg}"
        name, given, value = arg.partition("=")
        option = options.get(name)
        if given and option is not None and option.is_flag and value.lower() in _TRUTH:
            if _TRUTH[value.lower()]:
                out.append(name)
        elif given and option is not None and not option.is_flag and not name.startswith("--"):
            out += [name, value]
        elif given:
            out.append(arg)
        else:
            out.append(_completed(arg, option, args[index + 1 : index + 2]))
            awaited = out[-1] == arg and option is not None and not option.is_flag and not option.count
    return out


def _completed(arg: str, option: click.Option | None, after: Sequence[str]) -> str:
    """`--wait` before a word that is none of its choices stands for its usual choice; click would take the word."""
    if option is None or option.is_flag or option.flag_value is None or not isinstance(option.type, click.Choice):
        return arg
    return arg if after and after[0] in option.type.choices else f"{arg}={option.flag_value}"


def _anywhere() -> list[tuple[str, list[str], dict[str, Any]]]:
    return [
        ("output", ["-o", "--output"], {"default": None, "shell_complete": complete_format}),
        ("eru", ["-e", "--eru"], {"default": None}),
        ("context", ["--context"], {"default": None}),
        ("utc", ["--utc"], {"is_flag": True}),
        ("fields", ["--json"], {"default": None}),
        ("quiet", ["-q", "--quiet"], {"is_flag": True}),
        ("verbose", ["-v", "--verbose"], {"is_flag": True}),
    ]


def verb(
    name: str, *, examples: str = "", tail: bool = False, offline: bool = False, watch: bool = False, **attrs: Any
) -> Callable[[Body], Verb]:
    """Make a command of `async def body(session, **parameters) -> exit code or None`.

    `offline`: it asks no core, so a context that is broken or missing is none of its business.
    `watch`: it is a list that can be shown again and again.
    """

    def decorate(body: Body) -> Verb:
        @click.pass_context
        @functools.wraps(body)
        def callback(ctx: click.Context, /, **values: Any) -> int:
            from eru.cli.hints import advising

            with advising(ctx.command_path):
                return run(ctx, values)

        def run(ctx: click.Context, values: dict[str, Any]) -> int:
            given = {key.removeprefix(_GLOBAL): values.pop(key) for key in list(values) if key.startswith(_GLOBAL)}
            settings = ctx.find_object(Settings) or Settings()
            if given.get("output") is not None:
                given["output"] = format_name(given["output"], strict=not settings.published)
            if given.get("fields") and given.get("output") is None:
                given["output"] = "json"
            settings = settings.overridden(given)
            if not offline:
                from eru.cli.context.choose import effective

                settings = effective(settings)
                if not values.get("pod", "-") and any(isinstance(each, Pod) for each in ctx.command.params):
                    values["pod"] = settings.pod
            every = values.pop("interval") if watch else ""
            if watch and not values.pop("watch"):
                every = ""
            return _start(body, settings, values, every)

        if watch:
            for option in _watch_options():
                callback = option(callback)
        return click.command(name, cls=Verb, examples=examples, tail=tail, **attrs)(callback)

    return decorate


def _watch_options() -> list[Callable[[Any], Any]]:
    return [
        click.option("--interval", default="2s", metavar="TIME", show_default=True, help="With --watch: how often."),
        click.option("-w", "--watch", is_flag=True, help="Again and again; one JSON line per change where piped."),
    ]


def _start(body: Body, settings: Settings, values: dict[str, Any], every: str = "") -> int:
    import asyncio  # only commands pay for it, help does not

    return int(asyncio.run(_run(body, settings, values, every)) or 0)


async def _run(body: Body, settings: Settings, values: dict[str, Any], every: str) -> int | None:
    import asyncio

    from eru.cli.session import Session

    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with Session(settings) as session:
        if every:
            from eru.cli.show.watch import interval, repeat

            return await repeat(session, functools.partial(body, session, **values), interval(every))
        return await body(session, **values)
