"""The agent process: settings from file, environment and flags; then `eru.agent.app` until a signal."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from typing import Any

import click

from eru import __version__

# Flags as published. Those that take lists may be repeated or separated by commas.
_TEXT = (
    "log-level", "store", "core-endpoint", "core-username", "core-password", "runtime", "docker-endpoint",
    "metrics-step", "metrics-transfers", "api-addr", "api-token", "log-forwards", "log-stdout", "pidfile",
    "health-check-interval", "health-check-timeout", "health-check-cache-ttl", "heartbeat-interval", "hostname",
    "state-dir",
)  # fmt: skip
_HELP = {False: "Overrides the file's value.", True: "Overrides the file's value; repeatable."}
_LISTS = ("core-endpoint", "metrics-transfers", "log-forwards")


def _options() -> list[click.Parameter]:
    options: list[click.Parameter] = [
        click.Option(["--config"], metavar="FILE", envvar="ERU_AGENT_CONFIG_PATH", show_envvar=True,
                     help="Configuration file.  [default: /etc/eru/agent.yaml]"),
        click.Option(["--check-only-mine"], is_flag=True, help="Leave alone what other nodes' agents look after."),
        click.Option(["--check-config"], is_flag=True, help="Print the settings in effect, secrets masked, and end."),
    ]  # fmt: skip
    for name in _TEXT:
        many = name in _LISTS
        options.append(
            click.Option(
                [f"--{name}"],
                multiple=many,
                metavar="VALUE",
                help=_HELP[many],
            )
        )
    return options


def _command(config: str | None, check_only_mine: bool, check_config: bool, **given: Any) -> int:
    """Run the agent of this node."""
    from eru.agent.app import run_agent
    from eru.agent.settings import load_settings
    from eru.lib.log import configure_logging
    from eru.lib.world import real_world
    from eru.roots import process

    flags: dict[str, Any] = {}
    for name, value in given.items():
        if value:
            flags[name.replace("_", "-")] = ",".join(value) if isinstance(value, tuple) else value
    if check_only_mine:
        flags["check-only-mine"] = "true"
    settings = load_settings(config, flags, os.environ)
    if check_config:
        import yaml

        click.echo(yaml.safe_dump(settings.masked(), sort_keys=False), nl=False)
        return 0
    configure_logging(settings.log_level, stream=sys.stderr)
    return process.run_on_fastest_loop(run_agent(settings, real_world()))


class _PublishedSpelling(click.Command):
    """Also takes flags as the published program does: `-config FILE`, `--check-only-mine=true`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {option for param in self.params if isinstance(param, click.Option) for option in param.opts}
        return super().parse_args(ctx, list(_respelt(args, switches)))


def _respelt(args: list[str], switches: set[str]) -> Iterator[str]:
    for arg in args:
        name, equals, value = arg.partition("=")
        if name.startswith("-") and name not in switches and "-" + name in switches:
            name = "-" + name
        if name == "--check-only-mine" and equals:
            if value.lower() in ("1", "t", "true"):
                yield name
        else:
            yield name + equals + value


command = _PublishedSpelling(
    name="agent",
    callback=_command,
    params=_options(),
    help=_command.__doc__,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERSION = f"""\
Version:        {__version__}
Git hash:       -
Built:          -
Python version: {platform.python_version()}
OS/Arch:        {sys.platform}/{platform.machine()}"""
click.version_option(__version__, "-v", "--version", message=_VERSION)(command)
