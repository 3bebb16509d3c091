"""`eru workload scale`: exactly so many instances."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import click
from click.core import ParameterSource

from eru.cli import names
from eru.cli.exits import Exit, usage
from eru.cli.lazy import verb
from eru.cli.parse import seconds
from eru.cli.session import Session
from eru.cli.show.resources import opened
from eru.cli.show.talk import counted
from eru.cli.spec.read import load
from eru.cli.workload import deploy as deploying
from eru.cli.workload import deploy_options as options
from eru.cli.workload.control import remove_ids
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb(
    "scale",
    examples="""
eru workload scale shop web --count 5 --spec web.yaml
eru workload scale shop web --count 2
eru workload scale shop web --count 5 --spec web.yaml --dry-run
""",
)
@click.argument("app", shell_complete=names.apps)
@click.argument("entry", shell_complete=names.entrypoints)
@click.option("--count", type=int, required=True, help="How many there should be in all.")
@click.option("--spec", default="", type=click.Path(), help="The app's spec; needed for more instances.")
@options.where
@click.option("--image", default="", help="Which image to run.  [default: that of the newest instance]")
@options.resources
@options.container
@click.option("-f", "--force", is_flag=True, help="When removing: even what still runs.", default=True, hidden=True)
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--if-rev", type=int, default=0, help="Refuse if the plan is no longer the one of this revision.")
@options.wait
async def scale(session: Session, app: str, entry: str, count: int, spec: str, **values: Any) -> int:
    """Have exactly COUNT instances: deploy what is missing, or remove what is too much.

    New instances get the pod, image, network and resources of the newest one unless options say otherwise. What is
    not healthy goes first, then the newest on the fullest nodes.
    """
    if count < 0:
        raise usage(f"--count {count} is below zero")
    limit_s = seconds("--timeout", values["timeout"])
    asked = pb.ListWorkloadsOptions(appname=app, entrypoint=entry)
    there = await session.collect(rpc.ListWorkloads, asked)
    if len(there) == count:
        session.talk.say(f"nothing to do: {app}/{entry} has {counted(count, 'instance')}")
        return Exit.OK
    if len(there) > count:
        return await _fewer(session, there, len(there) - count, values)
    if not spec:
        raise usage(
            f"{app}/{entry} has {counted(len(there), 'instance')}, {count} need a spec",
            hint="add --spec FILE, as for a deploy",
        )
    parsed = await load(spec, entry, session.settings)
    if parsed.appname != app:
        raise usage(f"{spec} is the spec of {parsed.appname!r}, not of {app!r}")
    if there:
        _inherit(values, max(there, key=lambda each: (each.create_time, each.name)))
        _inherit_network(values, there)
    values |= {"entry": entry, "count": count - len(there)}
    options.require(values, "pod", "image")
    options.check(values)
    request = options.message(session, parsed, values, options.spec_bags(parsed, values))
    if values["dry_run"]:
        from eru.cli.workload import plan

        return await plan.show(session, request)
    outcome = await deploying.run(session, request, if_revision=values["if_rev"])
    return await deploying.finish(session, request, outcome, wait_s=limit_s, enough=values["wait"])


def _inherit(values: dict[str, Any], newest: pb.Workload) -> None:
    """Fill what was not given from an instance that runs."""
    values["pod"] = values["pod"] or newest.podname
    values["image"] = values["image"] or newest.image
    granted = opened(newest.resources).get("cpumem", {})
    if all(values[key] is None for key in ("cpu", "cpu_request", "cpu_limit")):
        values["cpu_request"], values["cpu_limit"] = granted.get("cpu_request"), granted.get("cpu_limit")
        values["cpu_bind"] = values["cpu_bind"] or bool(granted.get("cpu_map"))
    if all(values[key] is None for key in ("memory", "memory_request", "memory_limit")):
        for key in ("memory_request", "memory_limit"):
            values[key] = json.dumps(granted[key]) if isinstance(granted.get(key), int) else None
    if not values["env"]:
        values["env"] = tuple(newest.env)


def _inherit_network(values: dict[str, Any], there: list[pb.Workload]) -> None:
    """Unless one was asked for, the network of the newest instance that tells its own; a stopped one has none."""
    source = click.get_current_context().get_parameter_source("network")
    if source is not ParameterSource.DEFAULT:
        return
    newest_first = sorted(there, key=lambda each: (each.create_time, each.name), reverse=True)
    names = next((sorted(each.status.networks) for each in newest_first if each.status.networks), [])
    if len(names) == 1:  # an option names one; of several nobody knows which came first
        values["network"] = names[0]


async def _fewer(session: Session, there: list[pb.Workload], surplus: int, values: dict[str, Any]) -> int:
    """Remove the surplus."""
    going = surplus_of(there, surplus)
    if values["dry_run"]:
        for each in going:
            session.write(f"{each.name} on {each.nodename}\n")
        session.talk.say(f"{len(going)} of {counted(len(there), 'instance')} would be removed; nothing was changed")
        return Exit.OK
    named = {each.id: each.name for each in going}
    return await remove_ids(session, list(named), named, force=values["force"])


def surplus_of(there: list[pb.Workload], surplus: int) -> list[pb.Workload]:
    """Which to remove: the unhealthy first, then one by one the newest on the node that has most."""
    left = sorted(there, key=lambda each: (each.create_time, each.name))
    going: list[pb.Workload] = []
    for _ in range(min(surplus, len(left))):
        on_node = Counter(each.nodename for each in left)
        position = {each.id: index for index, each in enumerate(left)}
        worst = max(
            left,
            key=lambda each: (
                not each.status.running,
                not each.status.healthy,
                on_node[each.nodename],
                position[each.id],
            ),
        )
        left.remove(worst)
        going.append(worst)
    return going
