"""`eru network connect|disconnect`."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click

from eru.cli import resolve
from eru.cli.exits import Exit, explain, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.workload.select import chosen, confirm, selectors
from eru.model.errors import CoreUnreachable, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb(
    "connect",
    examples="eru network connect 3f2a 77b0 --network front\neru network connect 3f2a --network front --ipv4 10.1.0.9",
)
@selectors
@click.option("--network", required=True, help="Which network.")
@click.option("--ipv4", default="", help="A fixed address; then for one workload only.")
@click.option("--ipv6", default="", help="A fixed address; then for one workload only.")
async def connect(session: Session, network: str, ipv4: str, ipv6: str, **values: Any) -> int:
    """Connect workloads to a network."""
    _address("--ipv4", ipv4, 4)
    _address("--ipv6", ipv6, 6)
    picked = await chosen(session, values, "connect")
    if (ipv4 or ipv6) and picked.picked and len(picked.ids) > 1:
        raise usage(
            f"{len(picked.ids)} workloads cannot all have the address {ipv4 or ipv6}", hint="name one, or no address"
        )

    async def one(id_: str) -> str:
        asked = pb.ConnectNetworkOptions(network=network, target=id_, ipv4=ipv4, ipv6=ipv6)
        answer = await session.unary(rpc.ConnectNetwork, asked)
        return f"connected to {network} {', '.join(answer.subnets)}".rstrip()

    return await _each(session, picked.ids, one)


@verb("disconnect", examples="eru network disconnect 3f2a --network front")
@selectors
@click.option("--network", required=True, help="Which network.")
@click.option("-f", "--force", is_flag=True, help="Even if the engine hesitates.")
@click.option("--yes", is_flag=True, help="Do not ask, whatever the selectors pick.")
async def disconnect(session: Session, network: str, force: bool, yes: bool, **values: Any) -> int:
    """Disconnect workloads from a network."""
    picked = await chosen(session, values, "disconnect")
    confirm(session, "disconnect", picked, yes=yes)

    async def one(id_: str) -> str:
        asked = pb.DisconnectNetworkOptions(network=network, target=id_, force=force)
        await session.unary(rpc.DisconnectNetwork, asked)
        return f"disconnected from {network}"

    return await _each(session, picked.ids, one)


def _address(option: str, text: str, version: int) -> None:
    """Refuse what is no address of this version; "" is none."""
    try:
        right = not text or ipaddress.ip_address(text).version == version
    except ValueError:
        right = False
    if not right:
        raise usage(f"{option} {text!r} is not an IPv{version} address")


async def _each(session: Session, ids: Sequence[str], work: Callable[[str], Awaitable[str]]) -> int:
    problems = []
    for id_ in ids:
        try:
            session.talk.good(f"{resolve.told_id(session, id_)} {await work(id_)}")
        except CoreUnreachable:
            raise
        except RemoteError as error:
            problems.append(explain(error))
            session.talk.bad(f"{resolve.told_id(session, id_)}: {error}")
    if not problems:
        return Exit.OK
    session.talk.tally(len(ids) - len(problems), len(ids), "done")
    session.talk.next(f"eru workload get {resolve.short(ids[0])}")
    return Exit.PARTLY if len(problems) < len(ids) else problems[0].code
