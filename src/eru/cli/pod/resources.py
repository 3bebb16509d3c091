"""`eru pod resource|capacity`: how full, and how much more."""

from __future__ import annotations

import click

from eru.cli import names
from eru.cli.exits import Exit, Problem, not_found
from eru.cli.lazy import verb
from eru.cli.pod.nodes import exists
from eru.cli.session import Session
from eru.cli.show import tables
from eru.cli.show.document import as_data
from eru.cli.show.resources import ShareFilter, opened, shares
from eru.cli.show.table import render
from eru.cli.spec import bags
from eru.cli.suggest import did_you_mean
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb(
    "resource",
    watch=True,
    examples="eru pod resource prod\neru pod resource prod --filter 'memory >= 80%' --watch",
)
@click.argument("name", shell_complete=names.pods)
@click.option("-f", "--filter", "text", default="all", metavar="EXPRESSION", help="For example 'cpu > 50%'.")
@click.option("--stream", is_flag=True, help="Show each node in a table of its own as it arrives.")
async def resource(session: Session, name: str, text: str, stream: bool) -> int:
    """How much of each node of a pod is granted to workloads."""
    passes = ShareFilter(text)
    found: list[pb.NodeResource] = []
    broken: list[pb.NodeResource] = []
    async with names.naming(session, "pod", name):
        async for node in session.stream(rpc.GetPodResource, pb.GetPodOptions(name=name)):
            if not opened(node.resource_capacity):
                broken.append(node)
            elif passes(shares(node.resource_capacity, node.resource_usage)):
                found.append(node)
                if stream and session.tables:
                    session.write(tables.node_resources([node]))
    if not (found or broken):
        await exists(session, name, filtered=text != "all")
    found.sort(key=lambda node: node.name)
    if not (stream and session.tables):
        session.show_each(
            [as_data(node) for node in found], lambda: tables.node_resources(found), [node.name for node in found]
        )
    for node in broken:
        session.talk.warn(f"node {node.name}: {'; '.join(node.diffs) or 'core knows no resources of it'}")
    return Exit.PARTLY if broken else Exit.OK


@verb(
    "capacity",
    examples="eru pod capacity prod --cpu 0.5 --memory 512M --storage 0\neru -o json pod capacity prod -c 1 -m 1G -s 0",
)
@click.argument("name", shell_complete=names.pods)
@click.option("-c", "--cpu", type=float, required=True, help="Cores for one workload.")
@click.option("-m", "--memory", "--mem", required=True, help="Memory for one workload, for example 512M.")
@click.option("-s", "--storage", required=True, help="Disk space for one workload; 0 for none.")
@click.option("--cpu-bind", is_flag=True, help="The workload gets cores of its own.")
@click.option("-n", "--node", multiple=True, shell_complete=names.nodes, help="Only this node; can be repeated.")
@click.option("--extra-resources", default="", metavar="JSON", help="Further resource kinds.")
async def capacity(
    session: Session,
    name: str,
    cpu: float,
    memory: str,
    storage: str,
    cpu_bind: bool,
    node: tuple[str, ...],
    extra_resources: str,
) -> int:
    """How many more workloads of one size fit into a pod, per node."""
    wanted = bags.Wanted(cpu=cpu, memory=memory, storage=storage, cpu_bind=cpu_bind)
    bag = bags.workload(wanted, volumes_request=None, volumes_limit=None, extra=extra_resources)
    asked = pb.DeployOptions(
        podname=name,
        entrypoint=pb.EntrypointOptions(name=f"capacity{session.world.hex(12)}"),
        node_filter=pb.NodeFilter(includes=node),
        deploy_strategy=pb.DeployOptions.DUMMY,
        resources=bags.encoded(bag),
    )
    try:
        answer = await session.unary(rpc.CalculateCapacity, asked)
    except RemoteError:
        if name not in (pods := await names.known(session, "pod")) and pods:
            raise not_found(f"there is no pod {name!r}", hint=did_you_mean(name, pods)) from None
        raise
    rows = sorted(answer.node_capacities.items(), key=lambda each: (-each[1], each[0]))
    if session.tables:
        session.write(f"Total: {answer.total}\n")
    session.show(
        {"total": answer.total, "nodes": [{"name": each, "capacity": count} for each, count in rows]},
        lambda: render(["NODE", "CAPACITY"], [[[each], [str(count)]] for each, count in rows]),
        [each for each, count in rows if count],
    )
    if answer.total <= 0:
        raise Problem(f"nothing of this size fits into pod {name}", code=Exit.REFUSED)
    return Exit.OK
