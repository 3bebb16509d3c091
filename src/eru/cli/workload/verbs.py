"""`eru workload list|get`."""

from __future__ import annotations

from typing import Any

import click

from eru.cli import names
from eru.cli.exits import Exit, usage
from eru.cli.lazy import verb
from eru.cli.parse import pairs
from eru.cli.session import Session
from eru.cli.show import lists, tables
from eru.cli.show.document import as_data
from eru.cli.show.resources import totals
from eru.cli.show.table import render
from eru.cli.suggest import did_you_mean
from eru.cli.workload.fetch import fetched
from eru.cli.workload.select import chosen, selectors
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb(
    "list",
    watch=True,
    examples="""
eru workload list
eru workload list shop --entry web --node web1
eru workload list shop --match-ip 10.0.0.7
eru workload list shop --statistics
""",
)
@click.argument("app", required=False, default="", shell_complete=names.apps)
@click.option("--entry", default="", shell_complete=names.entrypoints, help="Only this entrypoint.")
@click.option("--node", default="", shell_complete=names.nodes, help="Only on this node.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only with this label; can be repeated.")
@click.option("--limit", type=int, default=0, help="At most so many.")
@click.option("--match-ip", multiple=True, help="Only with this address; can be repeated.")
@click.option("--skip-ip", multiple=True, help="Only without this address; can be repeated.")
@click.option("--pod", multiple=True, shell_complete=names.pods, help="Only in this pod; can be repeated.")
@click.option("--statistics", is_flag=True, help="Only the sums of what they were granted.")
async def list_(
    session: Session,
    app: str,
    entry: str,
    node: str,
    label: tuple[str, ...],
    limit: int,
    match_ip: tuple[str, ...],
    skip_ip: tuple[str, ...],
    pod: tuple[str, ...],
    statistics: bool,
) -> int:
    """Workloads of one app, or of all, by name."""
    if limit < 0:
        raise usage(f"--limit {limit} is below zero")
    filtered = bool(match_ip or skip_ip or pod or (entry and not app) or (node and not (app and entry)))
    asked = pb.ListWorkloadsOptions(
        appname=app,
        entrypoint=entry if app else "",
        nodename=node if app and entry else "",
        labels=pairs("--label", label),
        limit=0 if filtered or label else limit,
    )
    found = [
        each
        for each in await session.collect(rpc.ListWorkloads, asked)
        if (not node or each.nodename == node)
        and (not pod or each.podname in pod)
        and (not entry or each.name.rsplit("_", 2)[1:2] == [entry])
        and addresses_pass(each, match_ip, skip_ip)
    ]
    found.sort(key=lambda each: (each.name, each.id))
    found = found[:limit] if limit else found
    if statistics:
        _statistics(session, found)
        return Exit.OK
    session.show(
        [as_data(each) for each in found],
        lambda: tables.workloads(found, every=session.settings.published),
        [each.id for each in found],
        lambda: lists.workloads(found, now_s=session.world.clock.now(), utc=session.settings.utc),
    )
    if not found and app:
        await _explain_empty(session, app)
    return Exit.OK


def addresses_pass(workload: pb.Workload, match: tuple[str, ...], skip: tuple[str, ...]) -> bool:
    """Whether a workload has one of `match` (if any) and none of `skip`, as last reported."""
    own = {address.partition("/")[0] for address in workload.status.networks.values()}
    return (not match or bool(own & set(match))) and not own & set(skip)


def _statistics(session: Session, found: list[pb.Workload]) -> None:
    sums = totals([each.resources for each in found])
    row = [[f"{sums['CPUs']:.6f}"], [str(sums["Memory"])], [str(sums["Storage"])]]
    whole = {key: int(value) if value == int(value) else value for key, value in sums.items()}
    session.show(whole, lambda: render(["CPUS", "MEMORY", "STORAGE"], [row]))


async def _explain_empty(session: Session, app: str) -> None:
    """Tell an app that is not there from one whose workloads were filtered out."""
    apps = await names.known(session, "app")
    if app in apps:
        session.talk.say(f"no workload of {app} matches")
        return
    hint = did_you_mean(app, apps)
    session.talk.say(f"no workload of an app {app}{'; ' + hint if hint else ''}")


@verb(
    "get",
    examples="eru workload get 3f2a\neru workload get --app shop --node n1\neru -o json --expand workload get 3f2a",
)
@selectors
async def get(session: Session, **values: Any) -> int:
    """Single workloads, by id, prefix of an id, or name; or all that selectors pick."""
    found = await fetched(session, (await chosen(session, values, "get")).ids)
    session.show(
        [as_data(each) for each in found] or None,
        lambda: tables.workloads(found, every=session.settings.published),
        [each.id for each in found],
    )
    return Exit.OK
