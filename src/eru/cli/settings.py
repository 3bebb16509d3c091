"""What the global options and their variables say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

    from eru.cli.context.password import Secret

DEFAULT_ADDRESS = "127.0.0.1:5001"
TEMPLATE = "template="  # and what to fill in
FORMATS = ("table", "wide", "json", "yaml", "jsonl", "name")
PUBLISHED = "eru-cli"  # the program that keeps to what the published one does
FLAG, VARIABLE = "option", "variable"  # where a value comes from


@dataclass(frozen=True)
class Settings:
    """The global options of one command.

    `sources`: which of them were given, and how; what is missing there is a
    default. `context` is the name that was asked for; `eru.cli.context.choose`
    makes of it what is in effect.
    """

    eru: str = DEFAULT_ADDRESS
    username: str = ""
    password: str = ""
    context: str = ""
    output: str = "table"
    quiet: bool = False
    verbose: bool = False
    expand: bool = False
    utc: bool = False
    fields: str = ""  # of --json: names with commas, or ?
    tls: bool = False
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_server_name: str = ""
    program: str = "eru"
    argv: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    pod: str = ""  # of the context: where to run when --pod is not given
    production: bool = False  # of the context
    secret: Secret | None = None  # of the context: where the password is

    def __repr__(self) -> str:
        return f"Settings(eru={self.eru!r}, context={self.context!r}, output={self.output!r})"

    def overridden(self, given: dict[str, Any]) -> Settings:
        """With the options that were repeated after the command."""
        said = {key: value for key, value in given.items() if value not in (None, False)}
        return replace(self, **said, sources={**self.sources, **dict.fromkeys(said, FLAG)})

    @property
    def published(self) -> bool:
        """Whether the program is the drop-in."""
        return self.program == PUBLISHED


def sources_of(ctx: click.Context) -> dict[str, str]:
    """Which global options were given, and how."""
    found = {name: ctx.get_parameter_source(name) for name in ctx.params}
    kinds = {"COMMANDLINE": FLAG, "ENVIRONMENT": VARIABLE}
    return {name: kinds[source.name] for name, source in found.items() if source is not None and source.name in kinds}


def complete_format(ctx: object, param: object, text: str) -> list[str]:
    """For the shell."""
    return [name for name in FORMATS if name.startswith(text)]


def format_name(text: str | None, *, strict: bool = False) -> str:
    """The output format of `--output`; what is not known means a table, as ever, or is refused if `strict`."""
    name = (text or "").lower()
    name = "yaml" if name == "yml" else name
    if name in FORMATS:
        return name
    if text and name.startswith(TEMPLATE):
        return TEMPLATE + text[len(TEMPLATE) :]
    if strict and name:
        from eru.cli.exits import usage
        from eru.cli.suggest import did_you_mean

        hint = did_you_mean(name, FORMATS) or "for example -o json"
        raise usage(f"--output {text!r} is not known", why=f"known are {', '.join(FORMATS)}, {TEMPLATE}TEXT", hint=hint)
    return "table"
