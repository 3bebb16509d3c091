"""Images: build, cache, list, remove."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from eru.core.app import Core
from eru.core.ops import images
from eru.core.ops.build import BuildSettings, build_image
from eru.core.service.parts import mapped
from eru.engine.contract import Progress
from eru.model.errors import InvalidInput
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.convert.deploy import checked_list
from eru.wire.convert.images import build_spec
from eru.wire.routes import Call, Route, stream


def progress_message(progress: Progress) -> pb.BuildImageMessage:
    """The error detail is always there, as clients expect."""
    return pb.BuildImageMessage(
        id=progress.id,
        status=progress.status,
        progress=progress.progress,
        error=progress.error,
        stream=progress.stream,
        error_detail=pb.ErrorDetail(code=progress.error_code, message=progress.error),
    )


def cached_message(result: images.Cached) -> pb.CacheImageMessage:
    return pb.CacheImageMessage(
        image=result.image, success=not result.error, nodename=result.nodename, message=result.error
    )


def removed_message(result: images.Removed) -> pb.RemoveImageMessage:
    said = [result.error] if result.error else [f"Clean: {item}" for item in result.items]
    return pb.RemoveImageMessage(image=result.image, success=not result.error, messages=said)


def listed_message(result: images.Listed) -> pb.ListImageMessage:
    items = [pb.ImageItem(id=image.id, tags=image.tags) for image in result.images]
    return pb.ListImageMessage(images=items, nodename=result.nodename, err=result.error)


def routes(core: Core, settings: BuildSettings) -> list[Route]:
    def build(request: pb.BuildImageOptions, call: Call) -> AsyncGenerator[pb.BuildImageMessage, None]:
        return mapped(build_image(core, settings, build_spec(request)), progress_message)

    async def cache(request: pb.CacheImageOptions, call: Call) -> AsyncGenerator[pb.CacheImageMessage, None]:
        if not request.podname and not request.nodenames:
            raise InvalidInput("pod name is empty: say which pod's or which nodes are to get the images")
        wanted = checked_list("images", request.images)
        if not wanted:
            return  # as published: nothing to do is fine
        async for message in mapped(
            images.cache_images(core, request.podname, request.nodenames, wanted), cached_message
        ):
            yield message

    def remove(request: pb.RemoveImageOptions, call: Call) -> AsyncGenerator[pb.RemoveImageMessage, None]:
        if not request.podname and not request.nodenames:
            raise InvalidInput("pod name is empty: say which pod's or which nodes' images are to be removed")
        wanted = checked_list("images", request.images)
        results = images.remove_images(core, request.podname, request.nodenames, wanted, prune=request.prune)
        return mapped(results, removed_message)

    def listing(request: pb.ListImageOptions, call: Call) -> AsyncGenerator[pb.ListImageMessage, None]:
        return mapped(images.list_images(core, request.podname, request.nodenames, request.filter), listed_message)

    return [
        stream(rpc.BuildImage, build),
        stream(rpc.CacheImage, cache),
        stream(rpc.RemoveImage, remove),
        stream(rpc.ListImage, listing),
    ]
