"""The public API of a core: thin handlers by noun. Translate, call, translate.

`serve` is what the composition root calls; `routes` is the list of everything
on offer, and methods that are not in it answer UNIMPLEMENTED.
"""

from __future__ import annotations

from eru.core.app import Core
from eru.core.ops import registry
from eru.core.ops.build import BuildSettings
from eru.core.service import (
    about,
    control,
    deploy,
    images,
    inside,
    lambdas,
    networks,
    nodes,
    ours,
    pods,
    statuses,
    workloads,
)
from eru.wire.routes import Route
from eru.wire.server import Observer, RpcServer, ServerSettings


def routes(core: Core, build: BuildSettings | None = None) -> list[Route]:
    """Every call this core answers, except those of our own service that look at the server itself."""
    return [
        *about.routes(core),
        *pods.routes(core),
        *nodes.routes(core),
        *workloads.routes(core),
        *statuses.routes(core),
        *control.routes(core),
        *deploy.routes(core),
        *inside.routes(core),
        *lambdas.routes(core),
        *networks.routes(core),
        *images.routes(core, build or BuildSettings()),
        *ours.routes(core),
    ]


async def serve(
    core: Core, settings: ServerSettings, observer: Observer | None = None, build: BuildSettings | None = None
) -> RpcServer:
    """A started server for `core`. Raises InvalidInput when it cannot listen.

    To shut down: `shut_down`, then `core.stop`.
    """
    server = RpcServer(core.world, settings, [], observer)
    for route in (*routes(core, build), *ours.debug_routes(core, server)):
        server.add(route)
    await server.start()
    return server


async def shut_down(core: Core, server: RpcServer, drain_s: float) -> None:
    """Off the list of cores, streams end well, calls finish or end after their time, then what runs on its own."""
    await server.drain(lambda: registry.withdraw(core))
    await core.drain(drain_s)
