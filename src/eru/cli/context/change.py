"""`eru context set|remove`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from eru.cli.context import file
from eru.cli.context.password import FORMS
from eru.cli.context.verbs import complete
from eru.cli.exits import Exit, usage
from eru.cli.lazy import verb
from eru.cli.parse import choice
from eru.cli.session import Session
from eru.cli.settings import FORMATS
from eru.cli.suggest import did_you_mean
from eru.model.errors import InvalidInput
from eru.model.names import check_name

_TAKE_AWAY = "Take a key away, for example pod; can be repeated."


@verb(
    "set",
    offline=True,
    examples="""
eru context set local --address 127.0.0.1:5001 --use
eru context set prod --address core1:5001 --username ops --password-file ~/.eru-prod --pod web --production
eru context set prod --password-command 'pass show eru/prod'
eru context set prod --unset pod
""",
)
@click.argument("name", shell_complete=complete)
@click.option("--address", "--eru", default=None, help="Core: host:port, several with commas, or eru://host:port.")
@click.option("--username", default=None, help="Login name.")
@click.option(
    "--password-file", default=None, metavar="FILE", type=click.Path(), help="File with the password, mode 0600."
)
@click.option("--password-env", default=None, metavar="NAME", help="Variable with the password.")
@click.option("--password-command", default=None, metavar="COMMAND", help="Program that prints the password.")
@click.option("--tls/--no-tls", default=None, help="Speak TLS to core.")
@click.option("--tls-ca", default=None, metavar="FILE", type=click.Path(), help="Authority of core's certificate.")
@click.option("--tls-cert", default=None, metavar="FILE", type=click.Path(), help="Own certificate.")
@click.option("--tls-key", default=None, metavar="FILE", type=click.Path(), help="Own private key.")
@click.option("--tls-server-name", default=None, metavar="NAME", help="Name in core's certificate.")
@click.option("--pod", default=None, help="Where to run when --pod is not given.")
@click.option("--default-output", default=None, metavar="FORMAT", help="Output when -o is not given.")
@click.option("--production/--no-production", default=None, help="Warn in red before anything is changed.")
@click.option("--unset", multiple=True, metavar="KEY", help=_TAKE_AWAY)
@click.option("--use", "current", is_flag=True, help="Make it the current one.")
async def set_(session: Session, name: str, unset: tuple[str, ...], current: bool, **given: Any) -> int:
    """Make a context, or change what is given of one."""
    try:
        check_name("context name", name)
    except InvalidInput as error:
        raise usage(str(error)) from None
    given["output"] = given.pop("default_output")
    if given["output"]:
        given["output"] = choice("--default-output", given["output"], FORMATS)
    contexts = file.read()
    fresh = name not in contexts.known
    if fresh and not given["address"]:
        raise usage(f"context {name} is new and has no --address", hint="give --address HOST:PORT")
    values = _changed(contexts.known.get(name, {}), given, unset)
    for key in _missing(values):
        session.talk.warn(f"{key}: there is no file {values[key]} yet")
    contexts.known[name] = values
    first = not contexts.current and len(contexts.known) == 1
    if current or first:
        contexts.current = name
    file.write(contexts)
    session.talk.good(f"context {name} {'made' if fresh else 'changed'} in {contexts.path}")
    session.talk.next("eru doctor" if contexts.current == name else f"eru context use {name}")
    return Exit.OK


def _missing(values: dict[str, Any]) -> list[str]:
    keys = [key for key in (*file.PATH_KEYS, "password_file") if key in values]
    return [key for key in keys if not Path(values[key]).expanduser().exists()]


def _changed(old: dict[str, Any], given: dict[str, Any], unset: tuple[str, ...]) -> dict[str, Any]:
    said = {key: value for key, value in given.items() if value is not None}
    forms = [form for form in FORMS if said.get(form)]
    if len(forms) > 1:
        raise usage(f"--{forms[0].replace('_', '-')} and --{forms[1].replace('_', '-')} exclude each other")
    values = dict(old)
    if forms:  # one way to the password replaces another
        for form in FORMS:
            values.pop(form, None)
    for key, value in said.items():
        if value in ("", False):
            values.pop(key, None)
        else:
            values[key] = str(Path(value).expanduser().absolute()) if key in file.PATH_KEYS else value
    for word in unset:
        key = word.replace("-", "_")
        if key not in file.KEYS:
            raise usage(f"--unset {word!r} is not a key of contexts", hint=did_you_mean(key, file.KEYS))
        values.pop(key, None)
    return {key: values[key] for key in file.KEYS if key in values}


@verb("remove", offline=True, examples="eru context remove test")
@click.argument("name", shell_complete=complete)
async def remove(session: Session, name: str) -> int:
    """Forget a context. The cluster itself is not touched."""
    contexts = file.read()
    contexts.get(name)
    del contexts.known[name]
    if contexts.current == name:
        contexts.current = ""
        session.talk.warn("it was the current one; there is none now")
    file.write(contexts)
    session.talk.good(f"context {name} removed from {contexts.path}")
    return Exit.OK
