"""`eru workload status|get-status|set-status`."""

from __future__ import annotations

import json
from typing import Any

import click

from eru.cli import resolve
from eru.cli.exits import Exit, usage
from eru.cli.lazy import verb
from eru.cli.parse import pairs
from eru.cli.session import Session
from eru.cli.show import tables
from eru.cli.show.document import as_data
from eru.cli.workload.fetch import absent
from eru.cli.workload.select import chosen, meant, selectors
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb("get-status", examples="eru workload get-status 3f2a shop_web_aBcDeF\neru workload get-status --app shop")
@selectors
async def get_status(session: Session, **values: Any) -> int:
    """The status of workloads as last reported."""
    return await show(session, (await chosen(session, values, "look at")).ids)


@verb("status", examples="eru workload status shop/web\neru workload status 3f2a\neru workload status --node web1")
@selectors
async def status(session: Session, ids: tuple[str, ...], **values: Any) -> int:
    """Whether workloads run and are healthy: ids, names, an app or app/entry. Exit code 1 if one is not healthy."""
    return await show(session, [each.id for each in await meant(session, ids, values, "look at")], judge=True)


async def show(session: Session, wanted: list[str], *, judge: bool = False) -> int:
    """Print the statuses; `judge`: say by the exit code whether all are healthy."""
    try:
        answer = await session.unary(rpc.GetWorkloadsStatus, pb.WorkloadIDs(IDs=wanted))
    except RemoteError as error:
        raise await absent(session, wanted, error) from None
    found = list(answer.status)
    unreported = []
    for id_, each in zip(wanted, found, strict=False):
        if not each.id:
            unreported.append(id_)
            each.id = id_ if judge else ""
    session.show([as_data(each) for each in found] or None, lambda: tables.statuses(found), wanted)
    for id_ in unreported:
        session.talk.warn(f"{resolve.short(id_)} was never reported by an agent")
    if judge and not all(each.running and each.healthy for each in found):
        return Exit.PARTLY
    return Exit.OK


@verb("set-status", examples="eru workload set-status 3f2a --running --healthy --network host=10.0.0.5")
@selectors
@click.option("--running", is_flag=True, help="It runs.")
@click.option("--healthy", is_flag=True, help="It is healthy.")
@click.option("--ttl", type=int, default=0, help="Seconds until the report expires; 0: never.")
@click.option("--network", multiple=True, metavar="NAME=IP", help="Its address in a network; can be repeated.")
@click.option("--extension", default="", metavar="JSON", help="More to keep with the status.")
async def set_status(
    session: Session,
    running: bool,
    healthy: bool,
    ttl: int,
    network: tuple[str, ...],
    extension: str,
    **values: Any,
) -> int:
    """Report a status, as an agent would."""
    if ttl < 0:
        raise usage(f"--ttl {ttl} is below zero", hint="0 never expires")
    if extension:
        _check_json(extension)
    networks = pairs("--network", network)
    wanted = (await chosen(session, values, "report")).ids
    statuses = [
        pb.WorkloadStatus(
            id=each, running=running, healthy=healthy, ttl=ttl, networks=networks, extension=extension.encode()
        )
        for each in wanted
    ]
    try:
        answer = await session.unary(rpc.SetWorkloadsStatus, pb.SetWorkloadsStatusOptions(status=statuses))
    except RemoteError as error:
        raise await absent(session, wanted, error) from None
    found = list(answer.status)
    session.show([as_data(each) for each in found] or None, lambda: tables.statuses(found), wanted)
    return Exit.OK


def _check_json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError as error:
        raise usage(f"--extension is not JSON: {error}") from None
