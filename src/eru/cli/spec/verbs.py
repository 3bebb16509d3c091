"""`eru spec check|example|schema`."""

from __future__ import annotations

import os
from importlib.resources import files
from typing import Any

import click

from eru.cli.exits import Exit, Problem, not_found
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.talk import counted
from eru.cli.spec import check, values
from eru.cli.spec.expand import expand
from eru.cli.spec.read import called, read
from eru.cli.spec.view import child, root_of
from eru.cli.suggest import did_you_mean

FOLDER = files("eru.cli.spec").joinpath("examples")


def examples() -> list[str]:
    """Names of what there is."""
    return sorted(each.name.removesuffix(".yaml") for each in FOLDER.iterdir() if each.name.endswith(".yaml"))


def _complete(ctx: click.Context, param: click.Parameter, text: str) -> list[str]:
    return [name for name in examples() if name.startswith(text)]


@verb(
    "check",
    offline=True,
    examples="""
eru spec check web.yaml
eru spec check *.yaml
TIER=front eru spec check web.yaml --entry web
""",
)
@click.argument("places", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@click.option("--entry", default="", help="It must have this entrypoint, too.")
async def check_(session: Session, places: tuple[str, ...], entry: str) -> int:
    """Every mistake in specs, each with line, key, and the nearest key there is. Asks no core.

    FILE is a path, an http(s) address, or - for standard input.
    """
    data, bad, mistakes = [], 0, 0
    for place in places:
        told, found = await _one(place, entry)
        wrong = [each for each in found if not each.ignored]
        data.append({**told, "ok": not wrong, "mistakes": [each.told for each in wrong]})
        for each in wrong:
            session.talk.bad(each.told)
        for each in found:
            if each.ignored:
                session.talk.warn(each.told)
        mistakes += len(wrong)
        if wrong:
            bad += 1
        elif session.tables:
            session.talk.good(f"{told['file']}: app {told['app']}, {counted_entries(told['entrypoints'])}")
    if not session.tables:
        session.show(data if len(data) > 1 else data[0], str, [each["file"] for each in data if each["ok"]])
    if bad:
        raise Problem(
            f"{counted(mistakes, 'mistake')} in {bad} of {counted(len(data), 'file')}",
            hint="`eru explain` has all keys, `eru spec example web` a spec that is right",
            code=Exit.USAGE,
        )
    return Exit.OK


def counted_entries(names: list[str]) -> str:
    """`entrypoint web`, `entrypoints job, web`."""
    return f"entrypoint{'s' if len(names) > 1 else ''} {', '.join(names)}"


async def _one(place: str, entry: str) -> tuple[dict[str, Any], list[check.Finding]]:
    source = called(place)
    told: dict[str, Any] = {"file": source, "app": "", "entrypoints": []}
    text = await read(place)
    try:
        root = root_of(text, source)
        if root.node is not None:
            expand(root.node, source, os.environ)
        found = check.findings(root) + values.findings(root)
        top = root.mapping()
        told["app"] = child(top, "appname").text()
        told["entrypoints"] = list(child(top, "entrypoints").mapping())
    except Problem as problem:
        return told, [check.Finding(problem.what, problem.hint)]
    if not told["app"]:
        found.append(check.Finding(f"{source}: appname is missing", "add a line `appname: NAME`"))
    if not told["entrypoints"]:
        found.append(check.Finding(f"{source}: it has no entrypoints", "add `entrypoints:` with a name below"))
    elif entry and entry not in told["entrypoints"]:
        hint = did_you_mean(entry, told["entrypoints"]) or f"it has {', '.join(told['entrypoints'])}"
        found.append(check.Finding(f"{source} has no entrypoint {entry!r}", hint))
    return told, found


@verb("example", offline=True, examples="eru spec example\neru spec example web > shop.yaml")
@click.argument("name", required=False, default="", shell_complete=_complete)
async def example(session: Session, name: str) -> int:
    """A spec to begin with, explained line by line; without NAME, what there is."""
    known = examples()
    if not name:
        about = {each: _about(each) for each in known}
        lines = "".join(f"{each:<10} {told}\n" for each, told in about.items())
        session.show([{"name": each, "about": told} for each, told in about.items()], lambda: lines, known)
        return Exit.OK
    if name not in known:
        raise not_found(
            f"there is no example {name!r}", hint=did_you_mean(name, known) or f"there are {', '.join(known)}"
        )
    session.write(FOLDER.joinpath(f"{name}.yaml").read_text())
    session.talk.next(f"eru spec example {name} > {name}.yaml")
    return Exit.OK


def _about(name: str) -> str:
    """Its second line, which says what it is."""
    return FOLDER.joinpath(f"{name}.yaml").read_text().splitlines()[1].removeprefix("# ")


@verb(
    "schema",
    offline=True,
    examples="""
eru spec schema > spec.schema.json
""",
)
async def schema_(session: Session) -> None:
    """The JSON Schema of specs. Editors read it if the first line of a spec names it:
    # yaml-language-server: $schema=./spec.schema.json
    """
    from eru.cli.spec.schema import text

    session.write(text())
