"""`eru node list|get|remove|up|down|resource|workloads`."""

from __future__ import annotations

import click

from eru.cli import names
from eru.cli.exits import Exit
from eru.cli.lazy import verb
from eru.cli.parse import pairs
from eru.cli.pod import nodes as pod_nodes
from eru.cli.session import Session
from eru.cli.show import lists, tables
from eru.cli.show.document import as_data
from eru.cli.show.talk import counted
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb(
    "list",
    watch=True,
    examples="eru node list\neru node list prod --filter down\neru node list --label zone=a --show-info",
)
@click.argument("pod", required=False, default="", shell_complete=names.pods)
@click.option("-f", "--filter", "state", default="all", metavar="up|down|all", help="Only nodes in this state.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only nodes with this label; can be repeated.")
@click.option("--timeout", type=int, default=10, show_default=True, help="Seconds that the listing may take.")
@click.option("--show-info", is_flag=True, help="Ask every node's engine about itself.")
async def list_(session: Session, pod: str, state: str, label: tuple[str, ...], timeout: int, show_info: bool) -> int:
    """The nodes of a pod, or of all pods, in one table."""
    return await pod_nodes.show(session, pod, state, label, timeout, show_info, stream=False)


@verb("get", examples="eru node get web1\neru -o json --expand node get web1")
@click.argument("name", shell_complete=names.nodes)
async def get(session: Session, name: str) -> None:
    """One node: address, state, resources."""
    async with names.naming(session, "node", name):
        node = await session.unary(rpc.GetNode, pb.GetNodeOptions(nodename=name))
    show(session, node)


def show(session: Session, node: pb.Node, *, info: bool = True) -> None:
    """One node as the result of a command."""
    session.show(as_data(node), lambda: tables.nodes([node], info=info, every=session.settings.published), [node.name])


@verb("remove", examples="eru node remove web1")
@click.argument("name", shell_complete=names.nodes)
async def remove(session: Session, name: str) -> None:
    """Remove a node that runs no workloads."""
    async with names.naming(session, "node", name):
        await session.unary(rpc.RemoveNode, pb.RemoveNodeOptions(nodename=name))
    session.talk.good(f"node {name} removed")


@verb("up", examples="eru node up web1")
@click.argument("name", shell_complete=names.nodes)
async def up(session: Session, name: str) -> None:
    """Let a node take workloads again."""
    async with names.naming(session, "node", name):
        node = await session.unary(rpc.SetNode, pb.SetNodeOptions(nodename=name, bypass=pb.FALSE))
    session.talk.good(f"node {name} takes workloads")
    if not node.available and not node.test:
        session.talk.warn(f"node {name} is not available: its agent reports no heartbeat")


@verb("down", examples="eru node down web1\neru node down web1 --check")
@click.argument("name", shell_complete=names.nodes)
@click.option("--check", is_flag=True, help="Do it only if the node really does not answer.")
@click.option("--check-timeout", type=int, default=20, show_default=True, help="Seconds to wait for its answer.")
async def down(session: Session, name: str, check: bool, check_timeout: int) -> int:
    """Let a node take no new workloads. What runs there goes on."""
    asked = pb.SetNodeOptions(nodename=name, bypass=pb.TRUE)
    async with names.naming(session, "node", name):
        if check and await _answers(session, name, check_timeout):
            session.talk.warn(f"node {name} answers, so it is left as it is; without --check it is taken down")
            return Exit.OK
        await session.unary(rpc.SetNode, asked)
    session.talk.good(f"node {name} takes no new workloads")
    session.talk.next(f"eru node up {name}")
    return Exit.OK


async def _answers(session: Session, name: str, timeout: int) -> bool:
    """Whether core can inspect the node; an unknown node is an error, not an answer."""
    await session.unary(rpc.GetNode, pb.GetNodeOptions(nodename=name))
    asked = pb.GetNodeResourceOptions(opts=pb.GetNodeOptions(nodename=name))
    try:
        await session.unary(rpc.GetNodeResource, asked, timeout_s=timeout)
    except RemoteError as error:
        session.talk.say(f"node {name} does not answer: {error}")
        return False
    return True


@verb("resource", examples="eru node resource web1\neru node resource web1 --fix")
@click.argument("name", shell_complete=names.nodes)
@click.option("--fix", is_flag=True, help="Set the books to the sum of what the workloads were granted.")
async def resource(session: Session, name: str, fix: bool) -> None:
    """What is granted on a node, and where the books differ from the workloads."""
    asked = pb.GetNodeResourceOptions(opts=pb.GetNodeOptions(nodename=name), fix=fix)
    async with names.naming(session, "node", name):
        found = await session.unary(rpc.GetNodeResource, asked)
    session.show(as_data(found), lambda: tables.node_resources([found]), [found.name])
    if not fix and any(" inspect failed: " not in each for each in found.diffs):  # that is no matter of books
        session.talk.next(f"eru node resource {name} --fix")
    elif fix:
        session.talk.good(f"node {name} checked; {counted(len(found.diffs), 'difference')}")


@verb(
    "workloads",
    watch=True,
    examples="eru node workloads web1 --label tier=front\neru node workloads web1 --watch",
)
@click.argument("name", shell_complete=names.nodes)
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only workloads with this label; can be repeated.")
async def workloads(session: Session, name: str, label: tuple[str, ...]) -> None:
    """The workloads of a node."""
    async with names.naming(session, "node", name):
        asked = pb.GetNodeOptions(nodename=name, labels=pairs("--label", label))
        answer = await session.unary(rpc.ListNodeWorkloads, asked)
        if not answer.workloads:
            await session.unary(rpc.GetNode, pb.GetNodeOptions(nodename=name))
    found = sorted(answer.workloads, key=lambda each: (each.name, each.id))
    session.show(
        [as_data(each) for each in found] or None,
        lambda: tables.workloads(found, every=session.settings.published),
        [each.id for each in found],
        lambda: lists.workloads(found, now_s=session.world.clock.now(), utc=session.settings.utc),
    )
