"""Live names: for completion, and for "did you mean" when a name is not found.

Both are extras, so they have short deadlines and stay silent when core does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from eru.cli import name_cache
from eru.cli.settings import DEFAULT_ADDRESS, Settings, sources_of
from eru.lib import wall

if TYPE_CHECKING:
    from eru.cli.session import Session

COMPLETION_DEADLINE_S = 0.4  # ERU_COMPLETE_TIMEOUT says otherwise
SUGGESTION_DEADLINE_S = 2.0
NAMES_MAX = 2000  # names offered to a shell

SPEC_BYTES_MAX = 1024 * 1024  # a larger spec is not opened for TAB

Completer = Callable[[click.Context, click.Parameter, str], list[str]]
Fetch = Callable[["Session"], Awaitable[list[str]]]


async def pod_names(session: Session) -> list[str]:
    from eru.wire import core_pb2 as pb
    from eru.wire import methods as rpc

    return [pod.name for pod in (await session.unary(rpc.ListPods, pb.Empty())).pods]


async def node_names(session: Session) -> list[str]:
    from eru.wire import core_pb2 as pb
    from eru.wire import methods as rpc

    asked = pb.ListNodesOptions(all=True, skip_info=True)
    return [node.name for node in await session.collect(rpc.ListPodNodes, asked)]


async def workload_names(session: Session) -> list[str]:
    from eru.wire import core_pb2 as pb
    from eru.wire import methods as rpc

    return [each.name for each in await session.collect(rpc.ListWorkloads, pb.ListWorkloadsOptions())]


async def app_names(session: Session) -> list[str]:
    return sorted({name.rsplit("_", 2)[0] for name in await workload_names(session)})


async def entry_names(session: Session) -> list[str]:
    parts = [name.rsplit("_", 2) for name in await workload_names(session)]
    return sorted({each[1] for each in parts if len(each) == 3})


_KINDS: dict[str, Fetch] = {
    "pod": pod_names,
    "node": node_names,
    "workload": workload_names,
    "app": app_names,
    "entrypoint": entry_names,
}


async def known(session: Session, kind: str, deadline_s: float = SUGGESTION_DEADLINE_S) -> list[str]:
    """All names of a kind, sorted; [] when core does not tell in time."""
    from eru.model.errors import EruError

    try:
        async with asyncio.timeout(deadline_s):
            return sorted(set(await _KINDS[kind](session)))
    except (EruError, TimeoutError):
        return []


@asynccontextmanager
async def naming(session: Session, kind: str, name: str) -> AsyncIterator[None]:
    """Turn "not found" inside the block into a problem that names what there is."""
    from eru.cli.exits import Exit, code_of, not_found
    from eru.cli.suggest import did_you_mean
    from eru.model.errors import CoreUnreachable, RemoteError

    try:
        yield
    except CoreUnreachable:
        raise
    except RemoteError as error:
        if code_of(error.kind, str(error)) != Exit.NOT_FOUND or not name:
            raise
        there = await known(session, kind)
        if name in there:
            raise
        hint = did_you_mean(name, there) or (f"`eru {kind} list` shows what there is" if there else "")
        raise not_found(f"there is no {kind} {name!r}", why=f"core says: {error}", hint=hint) from None


# -- completion


def _complete(kind: str) -> Completer:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        return [name for name in _fetch(ctx, kind) if name.startswith(incomplete)][:NAMES_MAX]

    return complete


def _fetch(ctx: click.Context, kind: str) -> list[str]:
    """The names, from the cache or from core."""
    now_s = wall.now_s()
    root = ctx.find_root()
    path = name_cache.place(f"names-{kind}", _about(root))
    held = name_cache.load(path, now_s)
    if held is not None and (held[1] < name_cache.FRESH_S or name_cache.renew()):
        return held[0]
    found = _ask(root, kind)
    if found:
        name_cache.save(path, found, now_s)
    return found or (held[0] if held else [])


_CLUSTER = ("eru", "context", "username", "tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name")


def _about(root: click.Context) -> list[str]:
    """What tells one cluster from another, without reading the contexts: that would cost as much as asking."""
    from eru.cli.context.place import changed_ns, place

    path = place()
    given = [str(root.params.get(key) or "") for key in _CLUSTER]
    return [*given, str(path), str(changed_ns(path)), root.info_name or ""]


def _ask(root: click.Context, kind: str) -> list[str]:
    from eru.cli.context.choose import effective
    from eru.cli.exits import Problem
    from eru.cli.session import Session

    values = {key: root.params[key] for key in (*_CLUSTER, "password") if root.params.get(key)}
    program = root.info_name or "eru"
    settings = Settings(**{"eru": DEFAULT_ADDRESS, **values, "quiet": True}, program=program, sources=sources_of(root))

    async def ask() -> list[str]:
        async with Session(effective(settings)) as session:
            return await known(session, kind, _deadline_s())

    try:
        return asyncio.run(ask())
    except Problem:  # a broken config file is no answer to TAB
        return []


def _deadline_s() -> float:
    try:
        return float(os.environ.get("ERU_COMPLETE_TIMEOUT", ""))
    except ValueError:
        return COMPLETION_DEADLINE_S


def one_of(*words: str) -> Completer:
    """Offers these words."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def spec_entries(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The entrypoints of the spec on the line, if it is a file; else those that run."""
    from eru.cli.exits import Problem
    from eru.cli.spec.view import child, root_of

    # an option without its value ends the parsing before arguments have their names
    spec = next((word for word in (ctx.params.get("spec"), *ctx.args) if word and os.path.isfile(word)), "")
    try:
        with open(spec, "rb") as file:
            text = file.read(SPEC_BYTES_MAX).decode()
        found = sorted(child(root_of(text, spec).mapping(), "entrypoints").mapping())
    except (OSError, ValueError, Problem):
        found = _fetch(ctx, "entrypoint")
    return [name for name in found if name.startswith(incomplete)]


def apps_and_workloads(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Where both may stand: apps first."""
    return apps(ctx, param, incomplete) + workloads(ctx, param, incomplete)


pods = _complete("pod")
nodes = _complete("node")
workloads = _complete("workload")
apps = _complete("app")
entrypoints = _complete("entrypoint")
