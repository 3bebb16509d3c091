"""Images on nodes: make present, remove, list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from eru.core.app import Core
from eru.core.calls import bounded
from eru.core.ops.reach import check
from eru.core.ops.streams import closing
from eru.engine.contract import Capability, Engine, ImageInfo
from eru.lib.tasks import task_owner
from eru.model.errors import EngineError, EruError, InvalidInput, Refused
from eru.model.names import check_name

R = TypeVar("R")

NODES_PARALLEL_MAX = 32
EMPTY = "an image name is empty"
RESULTS_MAX = 256  # waiting for a slow client


class Cached(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an image is on a node now, and if not, why."""

    image: str
    nodename: str
    error: str = ""


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What went with an image on one node, or why it stayed."""

    image: str
    nodename: str
    items: list[str] = []
    error: str = ""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """Images of one node, or why they cannot be told."""

    nodename: str
    images: list[ImageInfo] = []
    error: str = ""


async def cache_images(
    core: Core, podname: str, nodenames: Sequence[str], images: Sequence[str]
) -> AsyncIterator[Cached]:
    """Nodes in parallel, images one after the other. Raises InvalidInput, NotFound, Refused."""
    nodes = await choose_nodes(core, podname, nodenames)

    async def one_node(nodename: str, engine: Engine, tell: Callable[[Cached], Awaitable[None]]) -> None:
        for image in images:
            error = ""
            try:
                await core.images.ensure(nodename, engine, image)
            except EruError as problem:
                error = str(problem)
            await tell(Cached(image=image, nodename=nodename, error=error))

    results = _each_node(core, nodes, one_node, lambda name, text: _all_failed(name, images, text))
    async with closing(results) as source:
        async for cached in source:
            yield cached


def _all_failed(nodename: str, images: Sequence[str], text: str) -> list[Cached]:
    return [Cached(image=image, nodename=nodename, error=text) for image in images]


async def remove_images(
    core: Core, podname: str, nodenames: Sequence[str], images: Sequence[str], *, prune: bool
) -> AsyncIterator[Removed]:
    """One result per node and image. `prune`: then also dangling ones. Raises InvalidInput, NotFound, Refused."""
    nodes = await choose_nodes(core, podname, nodenames)
    settings = core.settings

    async def one_node(nodename: str, engine: Engine, tell: Callable[[Removed], Awaitable[None]]) -> None:
        for image in images:
            try:
                if not image:
                    raise InvalidInput(EMPTY)
                call = engine.remove_image(image, force=False, prune=True)
                items = await bounded(call, settings.engine_slow_call_s, f"removing {image} from node {nodename}")
                await tell(Removed(image=image, nodename=nodename, items=items))
            except EruError as problem:
                await tell(Removed(image=image, nodename=nodename, error=str(problem)))
        if prune:
            try:
                await bounded(engine.prune_images(), settings.engine_slow_call_s, f"pruning images of node {nodename}")
            except EngineError as problem:
                await tell(Removed(image="", nodename=nodename, error=str(problem)))

    def failed(nodename: str, text: str) -> list[Removed]:
        return [Removed(image=image, nodename=nodename, error=text) for image in images]

    async with closing(_each_node(core, nodes, one_node, failed)) as source:
        async for removed in source:
            yield removed


async def list_images(core: Core, podname: str, nodenames: Sequence[str], reference: str) -> AsyncIterator[Listed]:
    """One result per node. `reference`: only this image. Raises InvalidInput, NotFound, Refused."""
    nodes = await choose_nodes(core, podname, nodenames)

    async def one_node(nodename: str, engine: Engine, tell: Callable[[Listed], Awaitable[None]]) -> None:
        call = engine.images(reference)
        found = await bounded(call, core.settings.engine_call_s, f"images of node {nodename}")
        await tell(Listed(nodename=nodename, images=found))

    results = _each_node(core, nodes, one_node, lambda name, text: [Listed(nodename=name, error=text)])
    async with closing(results) as source:
        async for listed in source:
            yield listed


async def choose_nodes(core: Core, podname: str, nodenames: Sequence[str]) -> list[str]:
    """The named nodes, else those of the pod (of all pods when empty) that are up. Never none."""
    if nodenames:
        for name in nodenames:
            check_name("node name", name)
        return [(await core.fleet.node_surely(name)).name for name in dict.fromkeys(nodenames)]
    if podname:
        check_name("pod name", podname)
    await core.fleet.fresh()
    names = [found.name for found in core.fleet.view.nodes(podname) if found.up]
    if not names:
        raise Refused(f"pod {podname!r} has no nodes that are up" if podname else "there are no nodes that are up")
    return names


async def _each_node(
    core: Core,
    nodenames: Sequence[str],
    work: Callable[[str, Engine, Callable[[R], Awaitable[None]]], Awaitable[None]],
    failed: Callable[[str, str], list[R]],
) -> AsyncIterator[R]:
    """What `work` tells of each node, as it comes; `failed` says what a node's failure looks like."""
    results: asyncio.Queue[R | None] = asyncio.Queue(RESULTS_MAX)
    gate = asyncio.Semaphore(NODES_PARALLEL_MAX)

    async def one(nodename: str) -> None:
        async with gate:
            try:
                engine = await core.engine_for(nodename)
                check(engine, Capability.IMAGES, nodename)
                await work(nodename, engine, results.put)
            except EruError as error:
                for result in failed(nodename, str(error)):
                    await results.put(result)
        await results.put(None)

    async with task_owner("images") as tasks:
        for nodename in nodenames:
            tasks.start(nodename, one(nodename))
        left = len(nodenames)
        while left:
            result = await results.get()
            if result is None:
                left -= 1
            else:
                yield result
