"""`eru image cache|remove|list`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from eru.cli import names
from eru.cli.exits import Exit, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.document import as_data
from eru.cli.show.table import render_merged
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

if TYPE_CHECKING:
    from eru.cli.show.columns import Column


def _need_place(pod: str, node: tuple[str, ...]) -> None:
    if not pod and not node:
        raise usage("neither --pod nor --node is given", hint="name where; `eru pod list` shows the pods")


@verb("cache", examples="eru image cache --pod prod shop:1.5 redis:7\neru image cache --node web1 shop:1.5")
@click.argument("images", nargs=-1, required=True)
@click.option("--pod", default="", shell_complete=names.pods, help="On all nodes of this pod.")
@click.option("--node", multiple=True, shell_complete=names.nodes, help="On this node; can be repeated.")
@click.option("--concurrent", type=int, default=10, hidden=True)
async def cache(session: Session, images: tuple[str, ...], pod: str, node: tuple[str, ...], concurrent: int) -> int:
    """Pull images onto nodes, so that a later deploy need not wait."""
    _need_place(pod, node)
    done = failed = 0
    asked = pb.CacheImageOptions(podname=pod, nodenames=node, images=images)
    async with names.naming(session, "pod", pod):
        async for answer in session.stream(rpc.CacheImage, asked):
            if answer.success:
                done += 1
                session.talk.good(f"{answer.image} on {answer.nodename}")
            else:
                failed += 1
                session.talk.bad(f"{answer.image} on {answer.nodename}: {answer.message or 'core gives no reason'}")
    if failed:
        session.talk.next("check the name and its registry; `eru doctor` checks the engines")
        session.talk.tally(done, done + failed, "cached")
        return Exit.PARTLY if done else Exit.ERROR
    return Exit.OK


@verb("remove", examples="eru image remove --pod prod shop:1.3\neru image remove --pod prod --prune shop:1.3")
@click.argument("images", nargs=-1, required=True)
@click.option("--pod", default="", shell_complete=names.pods, help="From all nodes of this pod.")
@click.option("--node", multiple=True, shell_complete=names.nodes, help="From this node; can be repeated.")
@click.option("--prune", is_flag=True, help="Then remove what nothing uses any more, too.")
@click.option("--concurrent", type=int, default=10, hidden=True)
async def remove(
    session: Session, images: tuple[str, ...], pod: str, node: tuple[str, ...], prune: bool, concurrent: int
) -> int:
    """Remove images from nodes."""
    _need_place(pod, node)
    done = failed = 0
    asked = pb.RemoveImageOptions(podname=pod, nodenames=node, images=images, prune=prune)
    async with names.naming(session, "pod", pod):
        async for answer in session.stream(rpc.RemoveImage, asked):
            if answer.success:
                done += 1
                session.talk.good(f"{answer.image} removed")
            else:
                failed += 1
                session.talk.bad(f"{answer.image} was not removed")
            for line in answer.messages:
                session.talk.say(f"  {line}")
    if failed:
        session.talk.next(f"eru image list {f'--pod {pod}' if pod else f'--node {node[0]}'}")
        session.talk.tally(done, done + failed, "removed")
        return Exit.PARTLY if done else Exit.ERROR
    return Exit.OK


@verb("list", watch=True, examples="eru image list --pod prod\neru image list --node web1 --filter shop")
@click.option("--pod", default="", shell_complete=names.pods, help="On all nodes of this pod.")
@click.option("--node", multiple=True, shell_complete=names.nodes, help="On this node; can be repeated.")
@click.option("--filter", "text", default="", help="Only images whose name matches.")
async def list_(session: Session, pod: str, node: tuple[str, ...], text: str) -> int:
    """Images on nodes."""
    _need_place(pod, node)
    asked = pb.ListImageOptions(podname=pod, nodenames=node, filter=text)
    found: list[pb.ListImageMessage] = []
    failed = 0
    async with names.naming(session, "pod", pod):
        async for answer in session.stream(rpc.ListImage, asked):
            if answer.err:
                failed += 1
                session.talk.bad(f"node {answer.nodename}: {answer.err}")
            else:
                found.append(answer)
    found.sort(key=lambda each: each.nodename)
    session.show([as_data(each) for each in found], lambda: _table(found), _names(found), lambda: _columns(found))
    if failed:
        return Exit.PARTLY if found else Exit.ERROR
    return Exit.OK


def _names(found: list[pb.ListImageMessage]) -> list[str]:
    return sorted({tag for node in found for image in node.images for tag in image.tags})


def _table(found: list[pb.ListImageMessage]) -> str:
    rows: list[list[str]] = []
    for node in found:
        for image in sorted(node.images, key=lambda each: (list(each.tags), each.id)):
            for index, tag in enumerate(image.tags or [""]):
                rows.append(["" if index else node.nodename, "" if index else image.id, tag])
    return render_merged(["NODE", "IMAGE", "TAGS"], rows, {0, 1})


def _columns(found: Sequence[pb.ListImageMessage]) -> list[Column]:
    from eru.cli.show import lists  # only a terminal needs it

    return lists.images(found)
