"""`eru workload realloc`: more or less for running workloads."""

from __future__ import annotations

from typing import Any

import click

from eru.cli.exits import Exit, Problem, code_of, human_bytes, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show import changes
from eru.cli.show.changes import Change
from eru.cli.show.resources import opened
from eru.cli.show.talk import counted
from eru.cli.spec import bags
from eru.cli.workload import deploy_options as options
from eru.cli.workload import room
from eru.cli.workload.select import Chosen, asking, chosen, confirm, label, selectors, whole
from eru.model.errors import CoreUnreachable, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

_PAIRS = (("cpumem", "cpu", "cores"), ("cpumem", "memory", "bytes"), ("storage", "storage", "bytes"))


@verb(
    "realloc",
    examples="""
eru workload realloc 3f2a --memory 256M              256 MiB more
eru workload realloc 3f2a --cpu=-0.5 --memory=-128M  less
eru workload realloc --app shop --memory 128M --dry-run
eru workload realloc 3f2a --cpu-bind                 cores of its own from now on
""",
)
@selectors
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
@asking
async def realloc(session: Session, **values: Any) -> int:
    """Give workloads more or less while they run. All numbers are changes, and may be negative."""
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
    picked = await chosen(session, values, "change")
    if values["dry_run"]:
        return await _plan(session, await whole(session, picked), bag)
    confirm(session, "change", picked, yes=values["yes"])
    return await _all(session, picked, bag)


async def _all(session: Session, picked: Chosen, bag: dict[str, Any]) -> int:
    """One after the other; the exit code of one is its own, of several whether all went well."""
    resources, failures = bags.encoded(bag), []
    for id_, name in picked.named.items():
        try:
            answer = await session.unary(rpc.ReallocResource, pb.ReallocOptions(id=id_, resources=resources))
            error = answer.error
        except CoreUnreachable:
            raise
        except RemoteError as problem:
            if len(picked.found) == 1:
                raise
            error = str(problem)
        if error:
            failures.append(Problem(f"{label(session, id_, name)} keeps what it has: {error}", code=code_of("", error)))
            if len(picked.found) > 1:
                session.talk.bad(failures[-1].what)
        else:
            session.talk.good(f"{label(session, id_, name)} has its new resources")
    if failures and len(picked.found) == 1:
        raise failures[0]
    if failures:
        raise Problem(f"{len(failures)} of {counted(len(picked.found), 'workload')} keep what they have")
    session.talk.next(f"eru workload get {label(session, *next(iter(picked.named.items()))).partition(' ')[0]}")
    return Exit.OK


def _list(text: str) -> list[str]:
    return [item for item in text.split(",") if item]


# -- plan


async def _plan(session: Session, picked: Chosen, bag: dict[str, Any]) -> int:
    """What each would have, and whether its node has room for that."""
    found = [(each, change) for each in picked.found.values() for change in differences(opened(each.resources), bag)]
    shown = [Change(f"{each.name} {change.what}", change.now, change.then, change.how) for each, change in found]
    session.show(changes.data(shown), lambda: changes.table(shown))
    wrong = [f"{each.name}: {change.what} would be below zero" for each, change in found if change.then.startswith("-")]
    wrong += await _short(session, picked, bag)
    if wrong:
        raise Problem("this change would be refused", why=wrong, code=Exit.REFUSED, hint="ask for a smaller change")
    session.talk.say(f"{counted(len(picked.found), 'workload')} would change; nothing was changed")
    return Exit.OK


def differences(granted: dict[str, dict[str, Any]], bag: dict[str, Any]) -> list[Change]:
    """What a workload has and would have; `bag`: changes as they are sent."""
    out: list[Change] = []
    for kind, what, unit in _PAIRS:
        own, delta = granted.get(kind, {}), bag.get(kind, {})
        if not (delta.get(f"{what}-request") or delta.get(f"{what}-limit")):
            continue
        request = own.get(f"{what}_request", 0) + delta.get(f"{what}-request", 0)
        limit = own.get(f"{what}_limit", 0) + delta.get(f"{what}-limit", 0)
        request = request or max(limit, 0)  # a limit alone is a request, too
        limit = max(limit, request) if limit else limit
        how = changes.LIVE if kind == "cpumem" else "live, in the books"
        for key, then in (("request", request), ("limit", limit)):
            now = own.get(f"{what}_{key}", 0)
            out.append(Change(f"{what} {key}", _text(now, unit), _text(then, unit), how))
    bound = "its own" if granted.get("cpumem", {}).get("cpu_map") else "shared"
    if bag["cpumem"].get("cpu-bind"):
        out.append(Change("cores", bound, "its own", "live, it moves to them"))
    elif not bag["cpumem"].get("keep-cpu-bind"):
        out.append(Change("cores", bound, "shared", "live, it moves to them"))
    for key in ("volumes-request", "volumes-limit"):
        if wanted := bag["storage"].get(key):
            now = granted.get("storage", {}).get(key.replace("-", "_")) or []
            how = "in the books; mounts change when it is replaced"
            out.append(Change(key.replace("-", " "), changes.words(now), f"changed by {changes.words(wanted)}", how))
    return [each for each in out if each.real]


def _text(number: float, unit: str) -> str:
    return human_bytes(number) if unit == "bytes" else f"{number:g}"


async def _short(session: Session, picked: Chosen, bag: dict[str, Any]) -> list[str]:
    """A line for whatever a node lacks for all the changes on it."""
    on_node: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for each in picked.found.values():
        on_node.setdefault(each.nodename, []).append(opened(each.resources))
    lines = []
    for name, granted in sorted(on_node.items()):
        node = await session.unary(rpc.GetNode, pb.GetNodeOptions(nodename=name))
        lacking = room.lacking(opened(node.resource_capacity), opened(node.resource_usage), granted, bag)
        lines += [f"node {name}: {each}" for each in lacking]
    return lines
