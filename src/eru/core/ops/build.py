"""Builds an image from sources, from a given context or from a workload, and pushes it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import msgspec
import structlog

from eru.core.app import Core
from eru.core.building.context import build_context
from eru.core.building.sources import GitSettings
from eru.core.calls import bounded
from eru.core.ops.reach import check, reach
from eru.core.ops.streams import closing
from eru.core.view import NodeView
from eru.engine.contract import Capability, Engine, Progress
from eru.model.builds import BuildMethod, BuildSpec
from eru.model.errors import EngineError, EngineMissing, InvalidInput, NoCapacity, Refused
from eru.model.names import check_name

_log = structlog.get_logger(__name__)

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")


class BuildSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where images are built and pushed to."""

    hub: str = ""
    namespace: str = ""
    build_pod: str = ""
    git: GitSettings = GitSettings()


async def build_image(core: Core, settings: BuildSettings, spec: BuildSpec) -> AsyncIterator[Progress]:
    """The engine's progress, then that of pushing each reference.

    A failure of the build itself is the last progress, with `error`. Raises
    InvalidInput, NotFound, NoCapacity and EngineError for what is refused before.
    """
    refs = references(settings, spec)
    if spec.method is BuildMethod.EXIST:
        found = await reach(core, spec.exist_id, Capability.IMAGES)
        nodename, engine = found.workload.nodename, found.engine
        steps = _from_workload(core, engine, found.workload.id, refs)
    else:
        nodename = _idlest(core, settings.build_pod).name
        engine = await core.engine_for(nodename)
        check(engine, Capability.BUILD, nodename)
        steps = _from_context(engine, settings, spec, refs)
    try:
        async with closing(_build_and_push(engine, steps, refs)) as source:
            async for step in source:
                yield step
    finally:
        if not core.draining:
            core.background.start(f"clean after build on {nodename}", _clean(core, engine, nodename, refs))


def references(settings: BuildSettings, spec: BuildSpec) -> list[str]:
    """`<hub>/<namespace>/<name>:<tag>` per tag. Raises InvalidInput."""
    check_name("image name", spec.name.replace("/", "-"))
    if spec.name != spec.name.lower():
        raise InvalidInput(f"image name {spec.name!r} must be lower case")
    if not settings.hub:
        raise InvalidInput("images cannot be built: docker.hub is not set in core.yaml")
    for tag in spec.tags:
        if not _TAG.fullmatch(tag):
            raise InvalidInput(f"image tag {tag[:64]!r} must be letters, digits, '.', '_' and '-'")
    namespace = settings.namespace.strip("/")
    prefix = "/".join(part for part in (settings.hub.strip("/"), namespace, spec.name) if part)
    return [f"{prefix}:{tag}" for tag in spec.tags or ["latest"]]


def _idlest(core: Core, podname: str) -> NodeView:
    """The node of the build pod with the most free resources."""
    if not podname:
        raise Refused("images cannot be built: docker.build_pod is not set in core.yaml")
    nodes = [found for found in core.fleet.view.nodes(podname) if found.up]
    if not nodes:
        raise NoCapacity(f"build pod {podname!r} has no node that is up: not enough nodes capacity")

    def idleness(found: NodeView) -> float:
        return sum(
            kind.idleness(found.capacity.get(name, {}), found.usage.get(name, {})) for name, kind in core.kinds.items()
        )

    return max(nodes, key=idleness)


async def _from_context(
    engine: Engine, settings: BuildSettings, spec: BuildSpec, refs: Sequence[str]
) -> AsyncIterator[Progress]:
    if spec.method is BuildMethod.RAW:
        if not spec.tar:
            raise InvalidInput("the build context is empty: send a tar with a Dockerfile")
        async for step in engine.build(_one(spec.tar), refs, platform=spec.platform):
            yield step
        return
    async with build_context(spec, settings.git) as context:
        async for step in engine.build(context, refs, platform=spec.platform):
            yield step


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _from_workload(core: Core, engine: Engine, id: str, refs: Sequence[str]) -> AsyncIterator[Progress]:
    limit = core.settings.engine_slow_call_s
    image = await bounded(engine.commit(id, refs[0]), limit, f"making an image of {id}")
    for ref in refs[1:]:
        await bounded(engine.tag(refs[0], ref), limit, f"tagging {ref}")
    yield Progress(id=image)


async def _build_and_push(
    engine: Engine, steps: AsyncIterator[Progress], refs: Sequence[str]
) -> AsyncIterator[Progress]:
    async with closing(steps) as source:
        async for step in source:
            yield step
            if step.error:
                return
    for ref in refs:
        try:
            async for step in engine.push(ref):
                yield step
                if step.error:
                    return
        except EngineError as error:
            yield Progress(error=str(error))
            return
        yield Progress(stream=f"finished {ref}\n", status="finished", progress=ref)


async def _clean(core: Core, engine: Engine, nodename: str, refs: Sequence[str]) -> None:
    """The build node keeps neither the references nor what the build left over."""
    for what in (*refs, ""):
        try:
            call: Coroutine[Any, Any, object] = engine.remove_image(what) if what else engine.prune_build_cache()
            await bounded(call, core.settings.engine_slow_call_s, f"cleaning {what} on node {nodename}")
        except EngineMissing:
            continue
        except EngineError as error:
            _log.info("left over after a build", what=what or "build cache", node=nodename, error=str(error))
