"""Help on one page: all global options, and the whole manual for `man`.

eru help --man > eru.1 && man ./eru.1
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from eru import __version__
from eru.cli.lazy import Examples, LazyGroup

ALL = "eru.all options"


def options(group: click.Group, ctx: click.Context) -> str:
    """All global options, with their variables and defaults."""
    ctx.meta[ALL] = True
    formatter = ctx.make_formatter()
    click.Command.format_options(group, ctx, formatter)
    return formatter.getvalue().rstrip("\n")


def page(group: LazyGroup, ctx: click.Context) -> str:
    """Everything, in the language of man pages."""
    ctx.meta[ALL] = True
    name = ctx.info_name or "eru"
    lines = [f'.TH {name.upper()} 1 "" "eru {__version__}"', ".SH NAME", f"{name} \\- {_text(group.help or '')}"]
    lines += [".SH SYNOPSIS", f".B {name}", "[OPTIONS] COMMAND [ARGS]...", ".SH OPTIONS", *_options(group, ctx)]
    lines += [".SH COMMANDS", *_commands(group, ctx), ".SH EXIT CODES", _text(group.epilog or "")]
    return "\n".join(lines)


def _commands(group: LazyGroup, ctx: click.Context) -> Iterator[str]:
    for name in group.list_commands(ctx):
        if group.lazy.get(name, ("",))[0].startswith("eru.roots"):
            yield from (".SS " + f"{ctx.command_path} {name}", _text(group.lazy[name][1]))
            continue
        command = group.get_command(ctx, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=ctx)
        if isinstance(command, LazyGroup):
            yield from _commands(command, inner)
            continue
        usage = " ".join(command.collect_usage_pieces(inner))
        yield from (f".SS {inner.command_path}", f".B {inner.command_path}", _text(usage), ".PP")
        yield _text(" ".join((command.help or "").split()))
        yield from _options(command, inner)
        examples = command.examples if isinstance(command, Examples) else ""
        if lines := [line.strip() for line in examples.strip().splitlines() if line.strip()]:
            yield from (".PP", ".nf", *(_text(line) for line in lines), ".fi")


def _options(command: click.Command, ctx: click.Context) -> Iterator[str]:
    for param in command.params:
        if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
            yield from (".TP", f".B {_text(record[0])}", _text(record[1]))


def _text(text: str) -> str:
    """Nothing in it means anything to a typesetter."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
