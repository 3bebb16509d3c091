"""`eru context list|show|use`."""

from __future__ import annotations

from typing import Any

import click

from eru.cli.context import choose, file
from eru.cli.context.place import place
from eru.cli.exits import Exit, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.settings import FLAG, Settings
from eru.cli.show.table import render


def complete(ctx: click.Context, param: click.Parameter, text: str) -> list[str]:
    """For the shell."""
    return [name for name in file.read().known if name.startswith(text)]


@verb("list", offline=True, examples="eru context list\neru -o json context list")
async def list_(session: Session) -> int:
    """All contexts of the file; the one in effect is marked."""
    contexts = file.read()
    name, _ = choose.chosen(session.settings)
    found = sorted(contexts.known)
    if not found:
        session.talk.say(f"there are no contexts; the file is {contexts.path}")
        session.talk.next("eru context set NAME --address HOST:PORT")
    data = [{"name": each, "current": each == name, **_public(contexts.known[each])} for each in found]
    rows = [
        [
            ["*" if each == name else ""],
            [each],
            [contexts.known[each].get("address", "")],
            [contexts.known[each].get("username", "")],
            [contexts.known[each].get("pod", "")],
            ["yes" if contexts.known[each].get("production") else ""],
        ]
        for each in found
    ]
    heads = ["", "NAME", "ADDRESS", "USERNAME", "POD", "PRODUCTION"]
    session.show(data, lambda: render(heads, rows) if rows else "", found)
    return Exit.OK


def _public(values: dict[str, Any]) -> dict[str, Any]:
    """A context without its password."""
    return {key: value for key, value in values.items() if key != "password"}


@verb("show", offline=True, examples="eru context show\neru context show prod\neru --context test context show")
@click.argument("name", required=False, default="", shell_complete=complete)
async def show(session: Session, name: str) -> int:
    """What commands use now, and where each value comes from; or one context."""
    asked = session.settings
    if name:
        asked = Settings(context=name, sources={"context": FLAG}, program=asked.program)
    chosen, by = (name, "") if name else choose.chosen(asked)
    values = file.read().get(chosen, by) if chosen else {}
    used = choose.applied(asked, chosen, values) if chosen else asked
    shown: dict[str, tuple[str, str]] = {
        "context": (chosen or "none", ", ".join(each for each in (by, str(place()) if chosen else "") if each))
    }
    shown["address"] = (used.eru, _origin(asked, "eru", "address", chosen, values))
    for key in ("username", "tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "output"):
        value = getattr(used, key)
        if value not in ("", False):
            shown[key] = (str(value).lower() if value is True else str(value), _origin(asked, key, key, chosen, values))
    if used.secret is not None:
        shown["password"] = (used.secret.told(), f"context {chosen}")
    elif "password" in asked.sources:
        shown["password"] = ("given", _origin(asked, "password", "password", chosen, values))
    if used.pod:
        shown["pod"] = (used.pod, f"context {chosen}")
    if used.production:
        shown["production"] = ("true", f"context {chosen}")
    session.show(
        {key: value == "true" if key in file.TRUTH_KEYS else value for key, (value, _) in shown.items()},
        lambda: render(["KEY", "VALUE", "FROM"], [[[key], [told], [origin]] for key, (told, origin) in shown.items()]),
        [chosen] if chosen else [],
    )
    return Exit.OK


def _origin(asked: Settings, field: str, key: str, context: str, values: dict[str, Any]) -> str:
    if field in asked.sources:
        return asked.sources[field]
    return f"context {context}" if key in values else "default"


@verb("use", offline=True, examples="eru context use prod\neru context use --none")
@click.argument("name", required=False, default="", shell_complete=complete)
@click.option("--none", is_flag=True, help="Have no current context; the default address is used.")
async def use(session: Session, name: str, none: bool) -> int:
    """Make a context the current one: the cluster of all commands that name no other."""
    if bool(name) == none:
        raise usage("name one context, or give --none", hint="`eru context list` shows them")
    contexts = file.read()
    if name:
        contexts.get(name)
    contexts.current = name
    file.write(contexts)
    if not name:
        session.talk.good("no context is current")
        return Exit.OK
    values = contexts.known[name]
    session.talk.good(f"{name} is current: {values.get('address', session.settings.eru)}")
    if values.get("production"):
        session.talk.warn(f"{name} is production")
    chosen, by = choose.chosen(session.settings)
    if chosen != name:
        session.talk.warn(f"{by} is set and goes first, so {chosen or 'no context'} is used until it is unset")
    return Exit.OK
