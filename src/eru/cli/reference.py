"""The list of all commands and options in docs/cli.md, written from the commands themselves.

    python -m eru.cli.reference docs/cli.md

rewrites what follows the marker; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from eru.cli.app import root
from eru.cli.lazy import Examples, LazyGroup

MARKER = "<!-- written by python -m eru.cli.reference -->"


def text() -> str:
    """All commands as Markdown."""
    group = root()
    ctx = click.Context(group, info_name="eru")
    return "\n".join(_section(group, ctx, skip=True)).rstrip() + "\n"


def _section(command: click.Command, ctx: click.Context, *, skip: bool = False) -> Iterator[str]:
    if not skip:
        yield from _one(command, ctx)
    if isinstance(command, LazyGroup):
        for name in command.list_commands(ctx):
            if command.lazy.get(name, ("",))[0].startswith("eru.roots"):
                continue  # processes document themselves
            inner = command.get_command(ctx, name)
            if inner is not None:
                yield from _section(inner, click.Context(inner, info_name=name, parent=ctx))


def _one(command: click.Command, ctx: click.Context) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield from (f"### {ctx.command_path}", "", (command.help or "").replace("\n", " ").strip(), "")
    yield from ("```", f"{ctx.command_path} {usage}".rstrip())
    examples = command.examples if isinstance(command, Examples) else ""
    lines = [line.strip() for line in examples.strip().splitlines() if line.strip()]
    if lines:
        yield from ("", *lines)
    yield from ("```", "")
    options = [param for param in command.params if isinstance(param, click.Option)]
    rows = [row for option in options if (row := option.get_help_record(ctx))]
    if rows and not isinstance(command, LazyGroup):
        yield from ("| option | meaning |", "|---|---|")
        yield from (f"| `{name.replace('|', '/')}` | {told.replace('|', '/')} |" for name, told in rows)
        yield ""


def rewritten(old: str) -> str:
    """The page with its written part renewed."""
    before, marker, _ = old.partition(MARKER)
    if not marker:
        raise ValueError(f"the page has no line {MARKER}")
    return f"{before}{MARKER}\n\n{text()}"


def main() -> None:
    """Rewrite the page that is named."""
    page = Path(sys.argv[1])
    page.write_text(rewritten(page.read_text()))


if __name__ == "__main__":
    main()
