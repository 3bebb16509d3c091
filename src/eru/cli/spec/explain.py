"""`eru explain`: the keys of a spec and the messages of the API, in the terminal and offline."""

from __future__ import annotations

import click

from eru.cli.exits import not_found
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.table import render
from eru.cli.spec.keys import KEYS, generic
from eru.cli.spec.messages import Field, messages
from eru.cli.suggest import did_you_mean


def complete(ctx: click.Context, param: click.Parameter, text: str) -> list[str]:
    """For the shell."""
    if text[:1].isupper():
        return [name for name in messages() if name.startswith(text)]
    return [key for key in KEYS if key.startswith(text)]


@verb(
    "explain",
    offline=True,
    examples="""
eru explain                                    all keys of a spec
eru explain healthcheck                        the keys below one
eru explain entrypoints.web.healthcheck.url
eru explain DeployOptions                      a message of the API
eru explain DeployOptions.node_filter
""",
)
@click.argument("key", required=False, default="", shell_complete=complete)
async def explain(session: Session, key: str) -> None:
    """The keys of a spec, or the fields of a message of the API: their type and meaning. Needs no core."""
    if key[:1].isupper():
        _message(session, key)
        return
    wanted = _whole(generic(key))
    used = {name: each for name, each in KEYS.items() if not each.unused}
    found = {name: each for name, each in used.items() if not key or name == wanted or name.startswith(f"{wanted}.")}
    if not found:
        last = {name.rpartition(".")[2] for name in used}
        near = did_you_mean(key, used) or did_you_mean(key.rpartition(".")[2], [*last, *messages()])
        raise not_found(f"specs have no key {key!r}", hint=near or "`eru explain` shows all")
    data = [{"key": name, "type": each.kind.value, "meaning": each.meaning} for name, each in found.items()]
    rows = [[[name], [each.kind.value], [each.meaning]] for name, each in found.items()]
    session.show(data, lambda: render(["KEY", "TYPE", "MEANING"], rows), list(found))


def _whole(key: str) -> str:
    """`healthcheck`, `healthcheck.url`: the end of a key stands for the whole; the shortest if there are several."""
    if not key or key in KEYS:
        return key
    ends = [name for name in KEYS if name.endswith(f".{key}")]
    return min(ends, key=lambda name: (name.startswith("builds"), name.count("."))) if ends else key


def _message(session: Session, key: str) -> None:
    """The fields of `Message`, or one of them; a field that is a message is followed: `DeployOptions.hook.force`."""
    name, *path = key.split(".")
    known = messages()
    if name not in known:
        raise not_found(f"the API has no message {name!r}", hint=did_you_mean(name, known) or "`eru explain` has specs")
    fields = known[name].fields
    for index, word in enumerate(path):
        if word not in fields:
            hint = did_you_mean(word, fields) or f"it has {', '.join(fields)}"
            raise not_found(f"{name} has no field {word!r}", hint=hint)
        inner = fields[word].message
        if index + 1 == len(path) and inner not in known:
            fields = {word: fields[word]}
        elif inner in known:
            name, fields = inner, known[inner].fields
        else:
            raise not_found(f"{'.'.join([key.split('.')[0], *path[: index + 1]])} has no fields of its own")
    _show(session, name, known[name].meaning, fields)


def _show(session: Session, name: str, meaning: str, fields: dict[str, Field]) -> None:
    data = [
        {"field": each.name, "number": each.number, "type": each.type, "meaning": each.meaning}
        for each in fields.values()
    ]
    rows = [[[each.name], [each.type], [each.meaning]] for each in fields.values()]
    session.talk.say(f"{name}: {meaning}" if meaning else name)
    session.show(data, lambda: render(["FIELD", "TYPE", "MEANING"], rows), list(fields))
