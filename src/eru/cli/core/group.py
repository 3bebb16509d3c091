"""`eru core`: run a core server here, or ask about the one that runs."""

from __future__ import annotations

import importlib
from typing import Any

import click

from eru.cli.lazy import LazyGroup, UnknownWord
from eru.cli.suggest import did_you_mean

_LAZY = {
    "info": ("eru.cli.core.verbs:info", "Version and identity of core"),
    "watch": ("eru.cli.core.verbs:watch", "Follow the list of running cores"),
}

client_group = LazyGroup(
    name="core", help="Information about core.", examples="eru core info\neru core watch", lazy=_LAZY
)


class ServerGroup(LazyGroup):
    """Without a sub-command it is the server command, with that command's own options."""

    def _server(self) -> click.Command:
        command = importlib.import_module("eru.roots.core").command
        if not isinstance(command, click.Command):
            raise TypeError("eru.roots.core:command is not a command")
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and (args[0] in self.lazy or args[0] in ("help", "h")):
            return super().parse_args(ctx, args)
        if args and not args[0].startswith("-") and not ctx.resilient_parsing:
            hint = did_you_mean(args[0], self.lazy)
            raise click.UsageError(f"there is no core command {args[0]!r}", ctx) from UnknownWord(hint)
        ctx.args = list(args)
        return []

    def invoke(self, ctx: click.Context) -> Any:
        if ctx._protected_args or (ctx.args and ctx.args[0] in self.lazy):
            return super().invoke(ctx)
        command = self._server()
        command.epilog = command.epilog or "See also `eru core info` and `eru core watch`, about the core that runs."
        with command.make_context(ctx.info_name, list(ctx.args), parent=ctx.parent) as inner:
            return command.invoke(inner)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        return [*super().shell_complete(ctx, incomplete), *self._server().shell_complete(ctx, incomplete)]


group = ServerGroup(
    name="core",
    help="Run a core server here (see `eru core --help`), or ask about the one that runs.",
    lazy=_LAZY,
    no_args_is_help=False,
    invoke_without_command=True,
)
