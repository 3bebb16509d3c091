"""The second half of `make quickstart`: three instances of a small web app on the cluster that `eru up` made.

    python -m eru.roots.demo

What a user would type is run as the very command; the rest only watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from eru.config import load_core
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool
from eru.lib.world import World, real_world
from eru.model.errors import EruError, Expired, NotFound, Refused
from eru.roots import process
from eru.roots.demo_image import IMAGE, ensure_demo_image
from eru.roots.files import DEFAULT_BIND, written_engine
from eru.roots.state import State, default_place
from eru.roots.up import client_address, client_of
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient

APP, ENTRYPOINT = "demo", "web"
PORT = 8080
COUNT = 3
HEALTHY_WAIT_S = 60.0
FETCH_S = 5.0
POLL_S = 0.2
SPEC = "examples/web.yaml"


class Demo:
    """One run over the cluster in `state`."""

    def __init__(self, world: World, state: State) -> None:
        self.world = world
        self.state = state
        if not state.core_config.exists() or process.running(state.core_pid) is None:
            raise NotFound(f"no cluster runs in {state.place}; type: eru up")
        self.config = load_core(state.core_config).settings
        self.address = client_address(self.config.bind)

    async def run(self) -> None:
        """Image, instances, pages, table, and what to type next. Raises EruError."""
        began = self.world.clock.monotonic()
        await self._image()
        async with client_of(self.world, self.config) as core:
            pod = await self._pod(core)
            await self._deploy(core, pod)
            workloads = await self._healthy(core)
        await self._pages(workloads)
        self._eru("status", "--once", APP)
        self._memory()
        self._next(workloads[0].name)
        say(f"demo: ready in {self.world.clock.monotonic() - began:.1f} s")

    async def _image(self) -> None:
        began = self.world.clock.monotonic()
        pool = EnginePool(self.world, engine_factories())
        try:
            async with pool.private(written_engine(self.state)) as engine:
                built = await ensure_demo_image(engine)
        finally:
            await pool.close()
        if built:
            remember_image(self.state, IMAGE)
        say(f"image {IMAGE}: {f'built{self._took(began)}' if built else 'there'}")

    async def _pod(self, core: CoreClient) -> str:
        pods = await core.unary(rpc.ListPods, pb.Empty())
        if not pods.pods:
            raise NotFound("there is no pod yet; type: eru up")
        return str(pods.pods[0].name)

    async def _deploy(self, core: CoreClient, pod: str) -> None:
        running = len(await self._listed(core))
        if running >= COUNT:
            say(f"{running} instances of {APP} run already")
            return
        where = ["--pod", pod, "--entry", ENTRYPOINT, "--image", IMAGE, "--network", "bridge"]
        self._eru("workload", "deploy", *where, "--memory", "64M", "--count", str(COUNT - running), SPEC)

    async def _healthy(self, core: CoreClient) -> list[pb.Workload]:
        """Wait until the agent has reported all of them healthy."""
        began = self.world.clock.monotonic()
        while True:
            workloads = await self._listed(core)
            healthy = [each for each in workloads if each.status.healthy]
            if len(healthy) >= COUNT:
                say(f"health: {len(healthy)} of {len(workloads)} instances are healthy{self._took(began)}")
                return healthy
            if self.world.clock.monotonic() > began + HEALTHY_WAIT_S:
                raise Expired(
                    f"only {len(healthy)} of {len(workloads)} instances became healthy within {HEALTHY_WAIT_S:g} s; "
                    f"see {self.state.agent_log} and: eru workload logs {workloads[0].name if workloads else APP}"
                )
            await self.world.clock.sleep(POLL_S)

    async def _listed(self, core: CoreClient) -> list[pb.Workload]:
        request = pb.ListWorkloadsOptions(appname=APP, entrypoint=ENTRYPOINT)
        found = [each async for each in core.stream(rpc.ListWorkloads, request)]
        return sorted(found, key=lambda each: str(each.name))

    async def _pages(self, workloads: Sequence[pb.Workload]) -> None:
        """Every instance must serve its own page."""
        timeout = aiohttp.ClientTimeout(total=FETCH_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            for each in workloads:
                for address in each.status.networks.values():
                    url = f"http://{address.partition('/')[0]}:{PORT}/"
                    try:
                        async with http.get(url) as answer:
                            text = await answer.text()
                    except (aiohttp.ClientError, TimeoutError) as error:
                        raise Refused(f"{each.name} does not serve {url}: {error or 'no answer in time'}") from error
                    title = next((line for line in text.splitlines() if line.startswith("<h1>")), "")
                    say(f"GET {url}  {answer.status}  {title.removeprefix('<h1>').removesuffix('</h1>')}")

    def _memory(self) -> None:
        """What core (with its store) and agent use: proportional set size where the kernel tells it."""
        used = {}
        for name, pidfile in (("core", self.state.core_pid), ("agent", self.state.agent_pid)):
            if (pid := process.running(pidfile)) is not None:
                used[name] = memory_of(pid) / 2**20
        told = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in used.items())
        say(f"memory: {told}; together {sum(used.values()):.0f} MiB (the store is inside core)")

    def _next(self, name: str) -> None:
        eru = self._typed()
        lines = (
            (f"{eru} status", "what runs, and what changes"),
            (f"{eru} workload logs {name}", "what an instance prints"),
            (f"{eru} workload exec -i {name} -- sh", "a shell inside"),
            (f"{eru} workload scale {APP} {ENTRYPOINT} --count 5 --spec {SPEC}", "more of them"),
            (f"{eru} workload remove --force {name}", "one less"),
            ("make down", "stop and remove everything"),
        )
        width = max(len(command) for command, _ in lines)
        print("\nNext:")
        for command, what in lines:
            print(f"  {command:<{width}}  # {what}")

    def _eru(self, *arguments: str) -> None:
        """Run what a user would type, and show it."""
        print(f"$ {self._typed()} {' '.join(arguments)}", flush=True)
        command = [sys.executable, "-m", "eru", "--eru", self.address, *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise Refused(f"`eru {' '.join(arguments[:2])}` ended with code {done.returncode}, see above")

    def _typed(self) -> str:
        """How this user would call eru for this cluster."""
        program = Path(sys.executable).with_name("eru")
        with contextlib.suppress(ValueError):
            program = program.relative_to(Path.cwd())
        return str(program) if self.address == DEFAULT_BIND else f"{program} --eru {self.address}"

    def _took(self, began: float) -> str:
        return f" in {self.world.clock.monotonic() - began:.1f} s"


def remember_image(state: State, image: str) -> None:
    """`eru down --purge` removes the images named here."""
    known = state.images.read_text().split() if state.images.exists() else []
    if image not in known:
        state.images.write_text("\n".join([*known, image]) + "\n")


def memory_of(pid: int) -> int:
    """Bytes of memory that a process accounts for."""
    for name, wanted in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
                if line.startswith(wanted):
                    return int(line.split()[1]) * 1024
    return 0


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def main() -> int:
    """The exit code; every failure is one sentence."""
    try:
        place = default_place().absolute()
        asyncio.run(Demo(real_world(), State(place)).run())
    except EruError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[3])  # where examples/ is
    sys.exit(main())
