"""`eru import`: a compose file becomes specs."""

from __future__ import annotations

from pathlib import Path

import click

from eru.cli.apps import compose
from eru.cli.apps.draft import Draft, lines_of, name_for, save
from eru.cli.exits import Exit, Problem, not_found
from eru.cli.lazy import Pod, verb
from eru.cli.names import pods
from eru.cli.session import Session
from eru.cli.show.table import render
from eru.cli.show.talk import counted
from eru.cli.spec import read as specs


@verb(
    "import",
    examples="""
eru import compose.yaml
eru import compose.yaml --app shop --dir deploy
eru import compose.yaml --strict             fail unless everything is mapped
""",
)
@click.argument("place", metavar="FILE", type=click.Path())
@click.option("--app", default="", help="Name of the app.  [default: the file's name, or its folder's]")
@click.option("--dir", "folder", default=".", show_default=True, type=click.Path(), help="Where the specs go.")
@click.option("--pod", cls=Pod, default="", shell_complete=pods, help="For the commands that are shown.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--strict", is_flag=True, help="Fail if anything is not mapped.")
async def import_(session: Session, place: str, app: str, folder: str, pod: str, force: bool, strict: bool) -> int:
    """Write a spec for each service of a compose file, and the command that deploys it.

    Every key is mapped, or told with its line and the reason.
    """
    made = await load(place, app)
    paths = [Path(folder) / f"{draft.entry}.yaml" for draft in made.drafts]
    tell(session, made)
    if strict and made.notes:
        raise Problem(f"{counted(len(made.notes), 'key')} of {place} not mapped", hint="nothing was written")
    for draft, path in zip(made.drafts, paths, strict=True):
        save(path, draft.text(str(path), pod), force=force)
    session.show(
        [
            {"file": str(path), **document(draft, str(path), pod)}
            for draft, path in zip(made.drafts, paths, strict=True)
        ],
        lambda: render(
            ["FILE", "ENTRYPOINT", "IMAGE", "COUNT", "PORTS"],
            [[[str(path)], *row] for path, row in zip(paths, lines_of(made.drafts), strict=True)],
        ),
        [str(path) for path in paths],
    )
    for draft, path in zip(made.drafts, paths, strict=True):
        session.talk.next(draft.command(str(path), pod))
    return Exit.OK


async def load(place: str, app: str) -> compose.Compose:
    """The compose file at a path or an address. Raises Problem."""
    text = await specs.read(place)
    return compose.read(text, specs.called(place), app, folder_name(place), lambda name: _beside(place, name))


def folder_name(place: str) -> str:
    """What an app is called that says no name: like the folder its file is in."""
    return name_for(Path(place).absolute().parent.name, "app")


def _beside(place: str, name: str) -> str:
    try:
        return (Path(place).parent / name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise not_found(f"{name}: {getattr(error, 'strerror', None) or error}") from None


def tell(session: Session, made: compose.Compose) -> None:
    """The notes, one line each, in the order of the file."""

    def line(note: str) -> int:
        number = note.partition(": ")[0].rpartition(":")[2]
        return int(number) if number.isdigit() else 0

    for note in sorted(made.notes, key=line):
        session.talk.warn(note)


def document(draft: Draft, place: str, pod: str) -> dict[str, object]:
    """For json and yaml."""
    return {
        "app": draft.app,
        "entrypoint": draft.entry,
        "image": draft.image,
        "command": draft.command(place, pod),
        "spec": draft.spec(),
    }
