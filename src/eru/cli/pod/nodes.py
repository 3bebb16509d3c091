"""`eru pod nodes` and `eru node list`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from eru.cli import names
from eru.cli.exits import Exit
from eru.cli.lazy import verb
from eru.cli.parse import choice, pairs
from eru.cli.session import Session
from eru.cli.show import tables
from eru.cli.show.document import as_data
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

LISTING_MARGIN_S = 5.0  # how much longer than core's own limit we wait

if TYPE_CHECKING:
    from eru.cli.show.columns import Column


async def fetch(
    session: Session, pod: str, *, state: str, labels: dict[str, str], timeout: int, info: bool
) -> list[pb.Node]:
    """Nodes of a pod ("" = all) that are `up`, `down` or either (`all`), by name."""

    async def listing(everything: bool) -> list[pb.Node]:
        asked = pb.ListNodesOptions(
            podname=pod, all=everything, labels=labels, timeout_in_second=timeout, skip_info=not info
        )
        limit = timeout + LISTING_MARGIN_S if timeout > 0 else None
        return await session.collect(rpc.ListPodNodes, asked, timeout_s=limit)

    found = await listing(state != "up")
    if state == "down":
        up = {node.name for node in await listing(False)}
        found = [node for node in found if node.name not in up]
    return sorted(found, key=lambda node: node.name)


@verb(
    "nodes",
    watch=True,
    examples="eru pod nodes prod\neru pod nodes --filter down\neru pod nodes prod --label zone=a --show-info",
)
@click.argument("name", required=False, default="", shell_complete=names.pods)
@click.option("-f", "--filter", "state", default="all", metavar="up|down|all", help="Only nodes in this state.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only nodes with this label; can be repeated.")
@click.option("--timeout", type=int, default=10, show_default=True, help="Seconds that the listing may take.")
@click.option("--show-info", is_flag=True, help="Ask every node's engine about itself.")
@click.option("--stream", is_flag=True, help="Show each node in a table of its own as it arrives.")
@click.option("--all", "everything", is_flag=True, hidden=True)
async def nodes(
    session: Session,
    name: str,
    state: str,
    label: tuple[str, ...],
    timeout: int,
    show_info: bool,
    stream: bool,
    everything: bool,
) -> int:
    """The nodes of a pod, or of all pods, in one table; eru-cli makes one table per node."""
    return await show(session, name, state, label, timeout, show_info, stream)


async def show(
    session: Session, pod: str, state: str, label: tuple[str, ...], timeout: int, info: bool, stream: bool
) -> int:
    """List and print; an unknown pod is an error, an empty one is not."""
    state = choice("--filter", state, ("up", "down", "all"))
    async with names.naming(session, "pod", pod):
        found = await fetch(session, pod, state=state, labels=pairs("--label", label), timeout=timeout, info=info)
    if not found and pod:
        await exists(session, pod, filtered=bool(label) or state != "all")
    published = session.settings.published
    if session.settings.output == "table" and (stream or published):
        for node in found:
            session.write(tables.nodes([node], info=info, every=published))
        return Exit.OK
    session.show_each(
        [as_data(node) for node in found],
        lambda: tables.nodes(found, info=info),
        [node.name for node in found],
        lambda: _columns(found),
    )
    return Exit.OK


async def exists(session: Session, pod: str, *, filtered: bool) -> None:
    """Tell an empty pod from one that is not there."""
    async with names.naming(session, "pod", pod):
        try:
            await session.unary(rpc.GetPod, pb.GetPodOptions(name=pod))
        except RemoteError as error:
            if error.code == 12:
                return
            raise
    session.talk.say(f"no node of pod {pod} matches" if filtered else f"pod {pod} has no nodes")


def _columns(found: Sequence[pb.Node]) -> list[Column]:
    from eru.cli.show import lists  # only a terminal needs it

    return lists.nodes(found)
