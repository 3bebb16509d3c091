"""`eru network connect|disconnect`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import click

from eru.cli import names, resolve
from eru.cli.exits import Exit, explain
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.model.errors import CoreUnreachable, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb(
    "connect",
    examples="eru network connect 3f2a 77b0 --network front\neru network connect 3f2a --network front --ipv4 10.1.0.9",
)
@click.argument("ids", nargs=-1, required=True, shell_complete=names.workloads)
@click.option("--network", required=True, help="Which network.")
@click.option("--ipv4", default="", help="A fixed address.")
@click.option("--ipv6", default="", help="A fixed address.")
async def connect(session: Session, ids: tuple[str, ...], network: str, ipv4: str, ipv6: str) -> int:
    """Connect workloads to a network."""

    async def one(id_: str) -> str:
        asked = pb.ConnectNetworkOptions(network=network, target=id_, ipv4=ipv4, ipv6=ipv6)
        answer = await session.unary(rpc.ConnectNetwork, asked)
        return f"connected to {network} {', '.join(answer.subnets)}".rstrip()

    return await _each(session, await resolve.ids(session, ids), one)


@verb("disconnect", examples="eru network disconnect 3f2a --network front")
@click.argument("ids", nargs=-1, required=True, shell_complete=names.workloads)
@click.option("--network", required=True, help="Which network.")
@click.option("-f", "--force", is_flag=True, help="Even if the engine hesitates.")
async def disconnect(session: Session, ids: tuple[str, ...], network: str, force: bool) -> int:
    """Disconnect workloads from a network."""

    async def one(id_: str) -> str:
        asked = pb.DisconnectNetworkOptions(network=network, target=id_, force=force)
        await session.unary(rpc.DisconnectNetwork, asked)
        return f"disconnected from {network}"

    return await _each(session, await resolve.ids(session, ids), one)


async def _each(session: Session, ids: Sequence[str], work: Callable[[str], Awaitable[str]]) -> int:
    problems = []
    for id_ in ids:
        try:
            session.talk.good(f"{resolve.short(id_)} {await work(id_)}")
        except CoreUnreachable:
            raise
        except RemoteError as error:
            problems.append(explain(error))
            session.talk.bad(f"{resolve.short(id_)}: {error}")
    if not problems:
        return Exit.OK
    return Exit.PARTLY if len(problems) < len(ids) else problems[0].code
