"""`eru workload realloc`: more or less for a running workload."""

from __future__ import annotations

from typing import Any

import click

from eru.cli import names, resolve
from eru.cli.exits import Exit, Problem, code_of, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.spec import bags
from eru.cli.workload import deploy_options as options
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb(
    "realloc",
    examples="""
eru workload realloc 3f2a --memory 256M              256 MiB more
eru workload realloc 3f2a --cpu=-0.5 --memory=-128M  less
eru workload realloc 3f2a --cpu-bind                 cores of its own from now on
""",
)
@click.argument("workload", shell_complete=names.workloads)
@click.option("--cpu", type=float, default=None, help="Change of request and limit, in cores.")
@click.option("--cpu-request", type=float, default=None, help="Change of the cores kept for it.")
@click.option("--cpu-limit", type=float, default=None, help="Change of the cores it can use.")
@click.option("--memory", default=None, metavar="SIZE", help="Change of request and limit.")
@click.option("--memory-request", default=None, metavar="SIZE", help="Change of the memory kept for it.")
@click.option("--memory-limit", default=None, metavar="SIZE", help="Change of the memory it can use.")
@click.option("--storage", default=None, metavar="SIZE", help="Change of request and limit.")
@click.option("--storage-request", default=None, metavar="SIZE", help="Change of the disk space kept for it.")
@click.option("--storage-limit", default=None, metavar="SIZE", help="Change of the disk space it can use.")
@click.option("--volumes-request", default="", help="Changes of volumes kept for it, with commas.")
@click.option("--volumes-limit", default="", help="Changes of volumes it can use, with commas.")
@click.option("--cpu-bind", is_flag=True, help="Give it cores of its own.")
@click.option("--cpu-unbind", is_flag=True, help="Let it share cores again.")
@click.option("--extra-resources", default="", metavar="JSON", help="Further resource kinds.")
async def realloc(session: Session, workload: str, **values: Any) -> int:
    """Give a workload more or less while it runs. All numbers are changes, and may be negative."""
    if values["cpu_bind"] and values["cpu_unbind"]:
        raise usage("--cpu-bind and --cpu-unbind exclude each other")
    bag = bags.workload(
        options.wanted(values, defaults=False),
        volumes_request=_list(values["volumes_request"]),
        volumes_limit=_list(values["volumes_limit"]),
        extra=values["extra_resources"],
        delta=True,
    )
    if not (values["cpu_bind"] or values["cpu_unbind"]):
        bag["cpumem"]["keep-cpu-bind"] = True
        if not any(value for kind in bag.values() for key, value in kind.items() if key != "keep-cpu-bind"):
            raise usage("nothing is to be changed", hint="for example --memory 256M, or --cpu=-0.5")
    id_ = (await resolve.ids(session, [workload]))[0]
    answer = await session.unary(rpc.ReallocResource, pb.ReallocOptions(id=id_, resources=bags.encoded(bag)))
    if answer.error:
        code = code_of("", answer.error)
        raise Problem(f"{workload} keeps what it has: {answer.error}", code=code)
    session.talk.good(f"{resolve.short(id_)} has its new resources")
    session.talk.next(f"eru workload get {resolve.short(id_)}")
    return Exit.OK


def _list(text: str) -> list[str]:
    return [item for item in text.split(",") if item]
