"""The fake engine: the asynchronous face of a `FakeNode`."""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from eru.engine.contract import (
    Capability,
    Chunk,
    Created,
    CreateSpec,
    EngineEvent,
    Figures,
    ImageInfo,
    Inspection,
    Listed,
    NetworkInfo,
    Progress,
    Session,
)
from eru.engine.fake.knobs import parse_endpoint
from eru.engine.fake.node import DEFAULT_CLUSTER, PAUSED, RUNNING, FakeCluster, FakeContainer, FakeNode
from eru.engine.fake.sessions import AttachSession, ExecSession, follow_log
from eru.lib.world import World
from eru.model.deploy import FileToSend
from eru.model.errors import (
    EngineMissing,
    EngineOutcomeUnknown,
    EngineRefused,
    EngineUnreachable,
    InvalidInput,
    NotSupported,
)
from eru.model.nodes import EngineInfo, Resources

CHUNK_BYTES = 64 * 1024  # of archives


class FakeEngine:
    """A handle on one fake node. `cluster`: where its state lives."""

    capabilities: frozenset[Capability] = frozenset(Capability) - {Capability.RAW}
    type = "fake"

    def __init__(self, world: World, endpoint: str, cluster: FakeCluster = DEFAULT_CLUSTER) -> None:
        key, self.knobs = parse_endpoint(endpoint)
        self.node: FakeNode = cluster.node(key)
        self.endpoint = endpoint
        self._world = world
        self._quiet = self.knobs.quiet

    # Every call passes here.

    async def _enter(self, verb: str) -> float:
        """Count, wait and fail as the knobs say; the time now."""
        self.node.calls[verb] += 1
        if self._quiet and not self.node.down:
            now = self._world.clock.now()
            self.node.settle(now)
            return now
        knobs, clock = self.knobs, self._world.clock
        if verb in knobs.hang:
            await clock.sleep(knobs.hang_s)
            raise EngineOutcomeUnknown(f"fake node {self.node.key!r} did not answer {verb} within {knobs.hang_s:g} s")
        if (delay_s := knobs.delay_s.get(verb, 0.0)) > 0:
            await clock.sleep(delay_s)
        if self.node.down or knobs.down:
            raise EngineUnreachable(f"fake node {self.node.key!r} is down")
        if self._chance(knobs.fail, verb):
            raise EngineRefused(f"fake node {self.node.key!r} refused to {verb}, as its knob fail_{verb} asks")
        now = clock.now()
        self.node.settle(now)
        return now

    def _leave(self, verb: str) -> None:
        """Lose the answer if the knobs say so; the effect is done."""
        if not self._quiet and self._chance(self.knobs.lose, verb):
            raise EngineOutcomeUnknown(f"the answer of fake node {self.node.key!r} to {verb} got lost")

    def _chance(self, table: Mapping[str, float], verb: str) -> bool:
        part = table.get(verb, 0.0)
        return part > 0 and self._world.random.random() < part

    async def info(self) -> EngineInfo:
        await self._enter("info")
        knobs = self.knobs
        return EngineInfo(
            type=self.type, id=self.node.key, ncpu=knobs.cpu, memory=knobs.memory, storage=knobs.storage, version="1"
        )

    async def ping(self) -> None:
        await self._enter("ping")

    async def close(self) -> None:
        """The state stays in the cluster."""

    # Life of a workload.

    async def create(self, spec: CreateSpec) -> Created:
        now = await self._enter("create")
        self._need_image(spec.image)
        id = f"{self._world.random.getrandbits(256):064x}"
        self.node.create(id, spec, now)
        self._leave("create")
        return Created(id=id)

    async def start(self, id: str) -> None:
        now = await self._enter("start")
        found = self.node.get(id)
        if found.state == PAUSED:
            raise EngineRefused(f"workload {id} is suspended, resume it instead")
        self.node.start(found, now, self.knobs.exit_after_s, self.knobs.exit_code)
        self._leave("start")

    async def stop(self, id: str, grace_s: float | None = None) -> None:
        now = await self._enter("stop")
        if self.knobs.grace_s and grace_s != 0:
            found = self.node.get(id)
            self.node.end_at(found, now + self.knobs.grace_s, 143)
            while found.running and found.ends_at < math.inf:
                await self._world.clock.sleep(max(found.ends_at - now, 0.0))
                now = self._world.clock.now()
                self.node.settle(now)
        self.node.end(self.node.get(id), now, 137 if grace_s == 0 else 143)
        self._leave("stop")

    async def remove(self, id: str, *, force: bool = False, volumes: bool = True) -> None:
        now = await self._enter("remove")
        found = self.node.get(id)
        if found.running and not force:
            raise EngineRefused(f"workload {id} runs, stop it first or remove it with force")
        self.node.remove(found, now)
        self._leave("remove")

    async def inspect(self, id_or_name: str) -> Inspection:
        await self._enter("inspect")
        return self.node.inspect(self.node.get(id_or_name))

    async def find(self, labels: Mapping[str, str], *, running_only: bool = False) -> list[Listed]:
        await self._enter("find")
        return self.node.find(dict(labels), running_only)

    async def wait(self, id: str) -> int:
        await self._enter("wait")
        found = self.node.get(id)
        while found.running:
            await self._change(found, found.ends_at)
        return found.exit_code

    async def suspend(self, id: str) -> None:
        await self._enter("suspend")
        found = self.node.get(id)
        if not found.running:
            raise EngineRefused(f"workload {id} does not run, so it cannot be suspended")
        found.state = PAUSED
        self._leave("suspend")

    async def resume(self, id: str) -> None:
        await self._enter("resume")
        found = self.node.get(id)
        if found.state != PAUSED:
            raise EngineRefused(f"workload {id} is not suspended")
        found.state = RUNNING
        self._leave("resume")

    async def update(self, id: str, params: Resources) -> None:
        await self._enter("update")
        found = self.node.get(id)
        found.params = msgspec.msgpack.encode({**found.resources(), **params})
        self._leave("update")

    async def _change(self, found: FakeContainer, deadline: float = math.inf) -> None:
        """Until something about the workload changed, or the Unix time `deadline` came."""
        left = deadline - self._world.clock.now()
        if left > 0:
            waiter = asyncio.get_running_loop().create_future()
            found.more().waiters.append(waiter)
            try:
                async with asyncio.timeout(None if math.isinf(left) else left):
                    await waiter
            except TimeoutError:
                pass
        self.node.settle(max(self._world.clock.now(), deadline if not math.isinf(deadline) else 0.0))

    # Looking inside.

    async def figures(self, id: str) -> Figures:
        now = await self._enter("figures")
        return self.node.figures(self.node.get(id), now)

    async def logs(
        self,
        id: str,
        *,
        tail: str = "all",
        since: str = "",
        until: str = "",
        follow: bool = False,
        timestamps: bool = False,
    ) -> AsyncIterator[Chunk]:
        await self._enter("logs")
        found = self.node.get(id)
        stream = follow_log(
            self._world, found, self._change, tail=tail, since=since, until=until, follow=follow, timestamps=timestamps
        )
        async for chunk in stream:
            yield chunk

    async def attach(self, id: str, *, stdin: bool = False, past: bool = True) -> Session:
        await self._enter("attach")
        return AttachSession(self._world, self.node, self.node.get(id), self._change, past=past)

    async def exec(
        self,
        id: str,
        commands: Sequence[str],
        *,
        env: Sequence[str] = (),
        dir: str = "",
        user: str = "",
        privileged: bool = False,
        tty: bool = False,
        stdin: bool = False,
    ) -> Session:
        await self._enter("exec")
        found = self.node.get(id)
        if found.state != RUNNING:
            raise EngineRefused(f"workload {id} does not run, so nothing can be executed in it")
        if not commands:
            raise InvalidInput("exec needs a command")
        return ExecSession(self._world, found, list(commands), [*found.env, *env], dir, user, tty, stdin)

    async def send_file(self, id: str, file: FileToSend) -> None:
        await self._enter("send_file")
        self.node.get(id).more().files[file.path] = (file.content, file.mode, file.uid, file.gid)
        self._leave("send_file")

    async def send_stream(
        self, id: str, path: str, size: int, mode: int, uid: int, gid: int, chunks: AsyncIterator[bytes]
    ) -> None:
        await self._enter("send_file")
        found = self.node.get(id)
        data = b"".join([chunk async for chunk in chunks])
        if len(data) != size:
            raise InvalidInput(f"file {path!r} was announced with {size} bytes, {len(data)} came")
        found.more().files[path] = (data, mode, uid, gid)
        self._leave("send_file")

    async def read_archive(self, id: str, path: str) -> AsyncIterator[bytes]:
        await self._enter("read_archive")
        data = _archive(self.node.get(id), path.rstrip("/") or "/")
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]

    # Networks.

    async def networks(self, driver: str = "") -> list[NetworkInfo]:
        await self._enter("networks")
        drivers = {"host": "host", "none": "null"}
        return [
            NetworkInfo(name=name, subnets=list(subnets))
            for name, subnets in self.node.networks.items()
            if driver in ("", drivers.get(name, "bridge"))
        ]

    async def connect_network(self, network: str, id: str, ipv4: str = "", ipv6: str = "") -> list[str]:
        await self._enter("connect_network")
        found = self.node.get(id)
        if network not in self.node.networks:
            raise EngineMissing(f"no network {network!r} on fake node {self.node.key!r}")
        found.more().networks[network] = ipv4
        self._leave("connect_network")
        return [self.node.inspect(found).networks.get(network, ipv4)]

    async def disconnect_network(self, network: str, id: str, *, force: bool = False) -> None:
        await self._enter("disconnect_network")
        if self.node.get(id).more().networks.pop(network, None) is None and not force:
            raise EngineRefused(f"workload {id} is not connected to network {network!r}")
        self._leave("disconnect_network")

    # Images: without the knob `images` every image can be pulled.

    def _need_image(self, image: str) -> None:
        if self.knobs.images and image not in self.knobs.images and image not in self.node.images:
            raise EngineMissing(f"no image {image!r} on fake node {self.node.key!r}")

    async def images(self, reference: str = "") -> list[ImageInfo]:
        await self._enter("images")
        tags: dict[str, list[str]] = {}
        for ref, id in self.node.images.items():
            if not reference or ref == reference or ref.rpartition(":")[0] == reference:
                tags.setdefault(id, []).append(ref)
        return [ImageInfo(id=id, tags=sorted(refs)) for id, refs in tags.items()]

    async def local_digests(self, image: str) -> list[str]:
        await self._enter("local_digests")
        return [_digest(image)] if image in self.node.images else []

    async def remote_digest(self, image: str) -> str:
        await self._enter("remote_digest")
        self._need_image(image)
        return _digest(image)

    async def pull(self, image: str) -> AsyncIterator[Progress]:
        await self._enter("pull")
        yield Progress(status=f"Pulling from {image}")
        if self.knobs.images and image not in self.knobs.images:
            yield Progress(error=f"no image {image!r} in the fake registry")
            return
        self.node.images[image] = _digest(image).rpartition("@")[2]
        yield Progress(status=f"Status: Downloaded newer image for {image}")

    async def push(self, image: str) -> AsyncIterator[Progress]:
        await self._enter("push")
        if image not in self.node.images:
            yield Progress(error=f"no image {image!r} on fake node {self.node.key!r}")
            return
        yield Progress(status=f"pushed {image}")

    async def build(
        self, context: AsyncIterator[bytes], refs: Sequence[str], *, platform: str = ""
    ) -> AsyncIterator[Progress]:
        await self._enter("build")
        digest = hashlib.sha256()
        async for chunk in context:
            digest.update(chunk)
        for ref in refs:
            self.node.images[ref] = f"sha256:{digest.hexdigest()}"
            yield Progress(stream=f"Successfully tagged {ref}\n")

    async def commit(self, id: str, ref: str) -> str:
        await self._enter("commit")
        image = f"sha256:{hashlib.sha256(self.node.get(id).id.encode()).hexdigest()}"
        self.node.images[ref] = image
        return image

    async def tag(self, image: str, ref: str) -> None:
        await self._enter("tag")
        if image not in self.node.images:
            raise EngineMissing(f"no image {image!r} on fake node {self.node.key!r}")
        self.node.images[ref] = self.node.images[image]

    async def remove_image(self, image: str, *, force: bool = False, prune: bool = True) -> list[str]:
        await self._enter("remove_image")
        if self.node.images.pop(image, None) is None:
            raise EngineMissing(f"no image {image!r} on fake node {self.node.key!r}")
        return [image]

    async def prune_images(self) -> None:
        await self._enter("prune_images")

    async def prune_build_cache(self) -> None:
        await self._enter("prune_build_cache")

    # The rest.

    async def events(self, labels: Mapping[str, str], since_ns: int = 0) -> AsyncIterator[EngineEvent]:
        await self._enter("events")
        past, queue = self.node.listen(since_ns)
        try:
            for event in past:
                if _has(event.labels, labels):
                    yield event
            while True:
                came = await self._next_event(queue)
                if came is not None and _has(came.labels, labels):
                    yield came
        finally:
            self.node.listeners.remove(queue)

    async def _next_event(self, queue: asyncio.Queue[EngineEvent]) -> EngineEvent | None:
        """The next one, or None when a workload's own end may have made one."""
        if not queue.empty():
            return queue.get_nowait()
        left = self.node.next_end() - self._world.clock.now()
        try:
            # A workload may be started meanwhile that ends sooner; its start is an event itself.
            async with asyncio.timeout(None if math.isinf(left) else max(left, 0.0)):
                return await queue.get()
        except TimeoutError:
            self.node.settle(max(self._world.clock.now(), self.node.next_end() if left <= 0 else 0.0))
            return None

    async def raw(self, id: str, op: str, params: bytes) -> bytes:
        raise NotSupported(f"a fake engine has no raw calls, so {op!r} cannot be made")


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(name in labels and value in ("", labels[name]) for name, value in wanted.items())


def _digest(image: str) -> str:
    """Reproducible, so that an image that was pulled once is up to date for ever."""
    return f"{image}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def _archive(found: FakeContainer, path: str) -> bytes:
    """A tar of one file, or of all files under a directory, as Docker makes it."""
    files = found.extra.files if found.extra is not None else {}
    inside = {name: file for name, file in files.items() if name == path or name.startswith(path.rstrip("/") + "/")}
    if not inside:
        raise EngineMissing(f"no file {path!r} in workload {found.id}")
    base = path.rpartition("/")[2]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        if path not in inside:
            top = tarfile.TarInfo(f"{base}/")
            top.type, top.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(top)
        for name, (content, mode, uid, gid) in sorted(inside.items()):
            entry = tarfile.TarInfo(base + name.removeprefix(path))
            entry.size, entry.mode, entry.uid, entry.gid = len(content), mode, uid, gid
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()
