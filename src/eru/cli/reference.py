"""The reference pages in docs/cli, written from the commands themselves.

    python -m eru.cli.reference docs/cli

writes one page per group of commands, `commands.md` for those without a
group, and the list of them in README.md; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from eru.cli.app import root
from eru.cli.lazy import Examples, LazyGroup

MARKER = "<!-- what follows is written by python -m eru.cli.reference docs/cli -->"
SINGLE = "commands"  # the page of commands that are in no group
INDEX = "README.md"


def pages() -> dict[str, str]:
    """File name -> text, the index left out."""
    group = root()
    ctx = click.Context(group, info_name="eru")
    made: dict[str, str] = {}
    single: list[str] = []
    for name, command in _commands(group, ctx):
        inner = click.Context(command, info_name=name, parent=ctx)
        if isinstance(command, LazyGroup):
            made[f"{name}.md"] = _page(f"eru {name}", _group(command, inner))
        else:
            single += _one(command, inner)
    made[f"{SINGLE}.md"] = _page("Commands without a group", single)
    return made


def _commands(group: LazyGroup, ctx: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(ctx):
        if group.lazy.get(name, ("",))[0].startswith("eru.roots"):
            continue  # processes document themselves
        command = group.get_command(ctx, name)
        if command is not None and not command.hidden:
            yield name, command


def _page(title: str, lines: list[str]) -> str:
    return "\n".join([f"# {title}", "", MARKER, "", *lines]).rstrip() + "\n"


def _group(group: LazyGroup, ctx: click.Context) -> list[str]:
    lines = [(group.help or "").replace("\n", " ").strip(), ""]
    lines += _examples(group)
    for name, command in _commands(group, ctx):
        inner = click.Context(command, info_name=name, parent=ctx)
        lines += _one(command, inner)
        if isinstance(command, LazyGroup):
            lines += _group(command, inner)[2:]
    return lines


def _examples(command: click.Command) -> list[str]:
    text = command.examples if isinstance(command, Examples) else ""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return ["```", *lines, "```", ""] if lines else []


def _one(command: click.Command, ctx: click.Context) -> Iterator[str]:
    yield from (f"## {ctx.command_path}", "", " ".join((command.help or "").split()), "")
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield from ("```", f"{ctx.command_path} {usage}".rstrip())
    if examples := _examples(command):
        yield from ("", *examples[1:-2])
    yield from ("```", "")
    options = [param for param in command.params if isinstance(param, click.Option)]
    rows = [row for option in options if (row := option.get_help_record(ctx))]
    if rows and not isinstance(command, LazyGroup):
        yield from ("| option | meaning |", "|---|---|")
        yield from (f"| `{name.replace('|', '/')}` | {told.replace('|', '/')} |" for name, told in rows)
        yield ""


def index(old: str) -> str:
    """The hand-written page with the list of pages after its marker renewed."""
    before, marker, _ = old.partition(MARKER)
    if not marker:
        raise ValueError(f"the index has no line {MARKER}")
    group = root()
    ctx = click.Context(group, info_name="eru")
    rows = ["| page | about |", "|---|---|"]
    single = []
    for name, command in _commands(group, ctx):
        about = group.lazy[name][1].replace("|", "/")
        if isinstance(command, LazyGroup):
            rows.append(f"| [{name}]({name}.md) | {about} |")
        else:
            single.append(f"`{name}`")
    rows.append(f"| [{SINGLE}]({SINGLE}.md) | {', '.join(single)} |")
    return "\n".join([f"{before}{MARKER}", "", *rows]) + "\n"


def written(folder: Path) -> dict[Path, str]:
    """Everything as it should be: path -> text."""
    made = {folder / name: text for name, text in pages().items()}
    made[folder / INDEX] = index((folder / INDEX).read_text())
    return made


def main() -> None:
    """Rewrite the pages of the folder that is named; pages of groups that are gone are removed."""
    folder = Path(sys.argv[1])
    made = written(folder)
    for path, text in made.items():
        path.write_text(text)
    for path in folder.glob("*.md"):
        if path not in made and MARKER in path.read_text():
            path.unlink()


if __name__ == "__main__":
    main()
