"""`eru pod list|add|remove|networks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from eru.cli import names
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show import tables
from eru.cli.show.document import as_data
from eru.cli.show.table import render
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

if TYPE_CHECKING:
    from eru.cli.show.columns import Column


@verb("list", watch=True, examples="eru pod list\neru pod list --watch\neru -o json pod list")
async def list_(session: Session) -> None:
    """All pods, by name."""
    found = sorted((await session.unary(rpc.ListPods, pb.Empty())).pods, key=lambda pod: pod.name)
    session.show(
        [as_data(pod) for pod in found] or None,
        lambda: tables.pods(found),
        [pod.name for pod in found],
        lambda: _columns(found),
    )


@verb("add", examples='eru pod add prod --desc "machines for customers"')
@click.argument("name")
@click.option("--desc", default="", help="What it is for.")
async def add(session: Session, name: str, desc: str) -> None:
    """Make a pod."""
    pod = await session.unary(rpc.AddPod, pb.AddPodOptions(name=name, desc=desc))
    session.show([as_data(pod)], lambda: tables.pods([pod]), [pod.name])
    session.talk.next(f"eru node add {name} --endpoint unix:///var/run/docker.sock")


@verb("remove", examples="eru pod remove prod")
@click.argument("name", shell_complete=names.pods)
async def remove(session: Session, name: str) -> None:
    """Remove a pod that has no nodes."""
    async with names.naming(session, "pod", name):
        await session.unary(rpc.RemovePod, pb.RemovePodOptions(name=name))
    session.talk.good(f"pod {name} removed")


@verb("networks", examples="eru pod networks prod --driver bridge")
@click.argument("name", shell_complete=names.pods)
@click.option("--driver", default="", help="Only networks of this driver.")
async def networks(session: Session, name: str, driver: str) -> None:
    """The networks that workloads of a pod can join."""
    async with names.naming(session, "pod", name):
        answer = await session.unary(rpc.ListNetworks, pb.ListNetworkOptions(podname=name, driver=driver))
    found = sorted(answer.networks, key=lambda network: network.name)
    session.show(
        [as_data(network) for network in found] or None,
        lambda: render(["NAME", "NETWORK"], [[[each.name], [",".join(each.subnets)]] for each in found]),
        [network.name for network in found],
    )


def _columns(found: Sequence[pb.Pod]) -> list[Column]:
    from eru.cli.show import lists  # only a terminal needs it

    return lists.pods(found)
