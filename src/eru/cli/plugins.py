"""Programs called `eru-foo` on the PATH are run as `eru foo`, with the settings in effect as variables."""

from __future__ import annotations

import os
import re

import click

from eru.cli.settings import Settings

PREFIX = "eru-"
_OWN = ("eru-cli", "eru-core", "eru-agent")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def find(name: str) -> str:
    """The program of a word that is no command of ours; "" for none."""
    if not _NAME.fullmatch(name) or PREFIX + name in _OWN:
        return ""
    for folder in _folders():  # not shutil.which: loading that library takes longer than the rest of help
        path = os.path.join(folder, PREFIX + name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def _folders() -> list[str]:
    return [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]


def names() -> list[str]:
    """All there are, sorted."""
    found: set[str] = set()
    for folder in _folders():
        try:
            there = [each for each in os.listdir(folder) if each.startswith(PREFIX)]
        except OSError:
            continue
        found.update(each.removeprefix(PREFIX) for each in there if find(each.removeprefix(PREFIX)))
    return sorted(found)


class Plugin(click.Command):
    """A command that becomes another program, which gets every word and the environment."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name, add_help_option=False, help=f"The program {path}.")
        self.path = path
        self.ignore_unknown_options = True
        self.allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return []

    def invoke(self, ctx: click.Context) -> None:
        from eru.cli.context.choose import effective

        settings = effective(ctx.find_object(Settings) or Settings())
        os.environ.update(environment(settings))
        os.execv(self.path, [self.path, *ctx.args])


def environment(settings: Settings) -> dict[str, str]:
    """The settings in effect as variables, so that what the plug-in starts talks to the same core."""
    given = {
        "ERU": settings.eru,
        "ERU_CONTEXT_IN_EFFECT": settings.context,
        "ERU_USERNAME": settings.username,
        "ERU_PASSWORD": settings.password or _password(settings),
        "ERU_OUTPUT_FORMAT": settings.output if settings.output != "table" else "",
        "ERU_TLS": "1" if settings.tls else "",
        "ERU_TLS_CA": settings.tls_ca,
        "ERU_TLS_CERT": settings.tls_cert,
        "ERU_TLS_KEY": settings.tls_key,
        "ERU_TLS_SERVER_NAME": settings.tls_server_name,
        "ERU_POD": settings.pod,
    }
    return {name: value for name, value in given.items() if value}


def _password(settings: Settings) -> str:
    return settings.secret.read(settings.context) if settings.secret is not None and settings.username else ""
