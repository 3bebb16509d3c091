"""Small things of answers that published clients see."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@pytest.fixture
async def ready(cluster: Any) -> Any:
    await cluster.add_pod()
    await cluster.add_node("n1")
    return cluster


def options(**more: Any) -> pb.DeployOptions:
    hook = pb.HookOptions(after_start=["echo fine", "sh -c 'echo no; exit 3'"], force=True)
    entry = pb.EntrypointOptions(name="web", hook=hook)
    bag = orjson.dumps({"cpu-request": 0.1, "memory-request": 1 << 20})
    chosen = {"name": "app", "podname": "pod", "image": "img", "count": 1, "resources": {"cpumem": bag}, **more}
    return pb.DeployOptions(entrypoint=entry, **chosen)


async def test_a_failed_hook_says_what_it_printed(ready: Any) -> None:
    [failed] = [one async for one in ready.client.stream(rpc.CreateWorkload, options())]
    assert not failed.success
    assert failed.error
    assert failed.hook.decode().splitlines()[:2] == ["fine", "no"]


async def test_a_failed_replace_tells_of_the_new_one_that_did_not_come_to_be(ready: Any) -> None:
    [made] = await ready.deploy(1)
    request = pb.ReplaceOptions(deployOpt=options(), IDs=[made.id])
    [told] = [one async for one in ready.client.stream(rpc.ReplaceWorkload, request)]
    assert told.error
    assert told.create.name.startswith("app_web_")
    assert (told.create.success, told.create.id, told.create.error) == (False, "", told.error)
    assert told.create.hook.decode().splitlines()[:2] == ["fine", "no"]
    assert orjson.loads(told.create.resources)["cpumem"]["memory_request"] == 1 << 20
    assert (told.remove.id, told.remove.success, told.remove.hook) == (made.id, False, "")
    request.deployOpt.image = ""
    [told] = [one async for one in ready.client.stream(rpc.ReplaceWorkload, request)]
    assert told.error
    assert not told.HasField("create"), "nothing was begun"


async def test_an_image_without_a_name_is_one_image_that_failed(ready: Any) -> None:
    wanted = {"podname": "pod", "nodenames": ["n1"], "images": ["img", ""]}
    cached = [one async for one in ready.client.stream(rpc.CacheImage, pb.CacheImageOptions(**wanted))]
    assert [(one.image, one.success) for one in cached] == [("img", True), ("", False)]
    assert "empty" in cached[1].message
    removed = [one async for one in ready.client.stream(rpc.RemoveImage, pb.RemoveImageOptions(**wanted))]
    assert [(one.image, one.success) for one in removed] == [("img", True), ("", False)]
    assert "empty" in removed[1].messages[0]
