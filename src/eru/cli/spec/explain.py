"""`eru explain`: the keys of a spec, in the terminal and offline."""

from __future__ import annotations

import click

from eru.cli.exits import not_found
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.table import render
from eru.cli.suggest import did_you_mean

KEYS: dict[str, tuple[str, str]] = {
    "appname": ("text", "name of the app; part of every workload's name"),
    "entrypoints": ("mapping", "ways to start the app, by name; --entry chooses one; no _ in the name"),
    "entrypoints.NAME.commands": ("list of text", "the program and its arguments, word by word"),
    "entrypoints.NAME.cmd": ("text", "the same as one line, split at spaces; only without commands"),
    "entrypoints.NAME.privileged": ("true or false", "run with all capabilities"),
    "entrypoints.NAME.dir": ("text", "working directory"),
    "entrypoints.NAME.restart": ("text", "what the engine does when it ends: no, always, on-failure[:times]"),
    "entrypoints.NAME.publish": ("list of text", "ports that clients use; shown as addresses, given to load balancers"),
    "entrypoints.NAME.sysctls": ("mapping of text", "kernel settings of the workload"),
    "entrypoints.NAME.log": ("mapping", "log driver of the engine"),
    "entrypoints.NAME.log.type": ("text", "its name: json-file, journald, ..."),
    "entrypoints.NAME.log.config": ("mapping of text", "its options"),
    "entrypoints.NAME.healthcheck": ("mapping", "what the agent probes; without it, running is healthy"),
    "entrypoints.NAME.healthcheck.tcp_ports": ("list of text", "ports that must accept connections"),
    "entrypoints.NAME.healthcheck.http_port": ("text", "port that must answer HTTP"),
    "entrypoints.NAME.healthcheck.url": ("text", "path that is asked for"),
    "entrypoints.NAME.healthcheck.code": ("number", "status it must answer with; 0: anything from 200 to 499"),
    "entrypoints.NAME.healthcheck.interval": ("duration", "between two probes: 5s, 1m30s"),
    "entrypoints.NAME.healthcheck.timeout": ("duration", "of one probe"),
    "entrypoints.NAME.healthcheck.healthy_threshold": ("number", "good results in a row before it is healthy"),
    "entrypoints.NAME.healthcheck.unhealthy_threshold": ("number", "bad results in a row before it is unhealthy"),
    "entrypoints.NAME.healthcheck.exec": ("text", "a command inside that must end with 0"),
    "entrypoints.NAME.hook": ("mapping", "commands that run inside the workload"),
    "entrypoints.NAME.hook.after_start": ("list of text", "after each start"),
    "entrypoints.NAME.hook.before_stop": ("list of text", "before each stop"),
    "entrypoints.NAME.hook.force": ("true or false", "a failed hook fails the operation"),
    "volumes": ("list of text", "src:dst[:flags[:size[:riops:wiops:rbps:wbps]]]; src AUTO lets core choose"),
    "volumes_request": ("list of text", "what is kept of each volume; as volumes if left out"),
    "labels": ("mapping of text", "labels of the workloads"),
    "dns": ("list of text", "name servers"),
    "extra_hosts": ("list of text", "name:address lines for /etc/hosts"),
    "stages": ("list of text", "for image build: the builds in their order"),
    "builds": ("mapping", "for image build: base, repo, version, commands, artifacts, ... of each stage"),
}


def generic(path: str) -> str:
    """`entrypoints.web.cmd` as the table has it."""
    parts = path.split(".")
    if parts[0] == "entrypoints" and len(parts) > 1:
        parts[1] = "NAME"
    return ".".join(parts)


def complete(ctx: click.Context, param: click.Parameter, text: str) -> list[str]:
    """For the shell."""
    return [key for key in KEYS if key.startswith(text)]


@verb("explain", offline=True, examples="eru explain\neru explain entrypoints.web.healthcheck")
@click.argument("key", required=False, default="", shell_complete=complete)
async def explain(session: Session, key: str) -> None:
    """The keys of a spec: their type and meaning. Needs no core."""
    wanted = generic(key)
    found = {name: told for name, told in KEYS.items() if not key or name == wanted or name.startswith(f"{wanted}.")}
    if not found:
        last = {name.rpartition(".")[2]: name for name in KEYS}
        near = did_you_mean(key.rpartition(".")[2], last)
        raise not_found(f"specs have no key {key!r}", hint=near or "`eru explain` shows all")
    data = [{"key": name, "type": kind, "meaning": meaning} for name, (kind, meaning) in found.items()]
    rows = [[[name], [kind], [meaning]] for name, (kind, meaning) in found.items()]
    session.show(data, lambda: render(["KEY", "TYPE", "MEANING"], rows), list(found))
