"""A cluster that is struck again and again: does it agree with itself afterwards?

    python benchmarks/chaos.py [--seconds 1200] [--seed 1]

Three etcd members, three Docker daemons with TLS, three cores, three agents and
five clients that deploy, remove, replace, realloc, stop, start, execute and run
lambdas. Meanwhile cores, members (the leader too), agents and daemons are
killed or hang for 30 s, and cores are cut off from etcd or from a daemon
(iptables, by group id, hence as root). Then everything is healed, and records,
containers, statuses, books, intents and what the clients were told must agree
within four minutes. Exit code 1 when they do not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from chaos_cluster import APP, Cluster, disagreements

from eru.lib.world import real_world
from eru.model.errors import EruError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import connect

MIB = 1 << 20
CLIENTS = 5
LIVE_MAX = 14  # workloads of one client
CALL_S = 100.0
LATE_S = 20.0  # more than its deadline: the call never ended
HEALED_S = 240.0
HANG_S = 30.0
LOOP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]
CALLS = {"deploy": 30, "remove": 18, "replace": 8, "realloc": 10, "control": 12, "execute": 8, "run": 6, "read": 8}


class Client:
    """Asks by chance, and remembers what it was told: `there`, `gone`."""

    def __init__(self, cluster: Cluster, chance: random.Random, told: Counter[str]) -> None:
        self.cluster, self.chance, self.told = cluster, chance, told
        self.mine: set[str] = set()
        self.there: set[str] = set()
        self.gone: set[str] = set()
        self.endless: list[str] = []

    async def run(self, end: float) -> None:
        async with connect(self.cluster.addresses, world=real_world(), call_timeout_s=CALL_S) as self.core:
            while time.monotonic() < end:
                verb = self.chance.choices(list(CALLS), list(CALLS.values()))[0]
                if verb == "deploy" and len(self.mine) > LIVE_MAX:
                    verb = "remove"
                elif verb not in ("read", "run") and not self.mine:
                    verb = "deploy"
                try:
                    async with asyncio.timeout(CALL_S + LATE_S):
                        await getattr(self, f"_{verb}")()
                    self.told[f"{verb} answered"] += 1
                except TimeoutError:
                    self.endless.append(f"{verb} had not ended {LATE_S:g} s after its deadline")
                except EruError:
                    self.told[f"{verb} failed with a reason"] += 1
                await asyncio.sleep(self.chance.random() / 2)

    def options(self, count: int, commands: list[str]) -> pb.DeployOptions:
        bag: dict[str, Any] = {"memory-request": str(32 * MIB), "memory-limit": str(32 * MIB)}
        if self.chance.random() < 0.3:
            bag |= {"cpu-bind": True, "cpu-request": 0.1, "cpu-limit": 0.1}
        else:
            bag |= {"cpu-request": 0.02, "cpu-limit": 0.1}
        return pb.DeployOptions(
            name=APP,
            entrypoint=pb.EntrypointOptions(name="main", commands=commands),
            podname="pod",
            image="bb",
            count=count,
            networks={"none": ""},
            ignore_pull=True,
            resources={"cpumem": json.dumps(bag).encode()},
        )

    def one(self) -> str:
        return self.chance.choice(sorted(self.mine))

    async def _deploy(self) -> None:
        request = self.options(self.chance.choice([1, 1, 2, 5]), LOOP)
        async for made in self.core.stream(rpc.CreateWorkload, request, timeout_s=CALL_S):
            if made.success:
                self.mine.add(made.id)
                self.there.add(made.id)

    async def _remove(self) -> None:
        ids = self.chance.sample(sorted(self.mine), min(len(self.mine), self.chance.choice([1, 1, 3])))
        self.mine.difference_update(ids)
        self.there.difference_update(ids)  # from now on it may be either
        request = pb.RemoveWorkloadOptions(IDs=ids, force=True)
        async for answer in self.core.stream(rpc.RemoveWorkload, request, timeout_s=CALL_S):
            if answer.success:
                self.gone.add(answer.id)

    async def _replace(self) -> None:
        old = self.one()
        self.mine.discard(old)
        self.there.discard(old)
        options = self.options(1, LOOP)
        options.ClearField("resources")
        request = pb.ReplaceOptions(deployOpt=options, IDs=[old])
        async for answer in self.core.stream(rpc.ReplaceWorkload, request, timeout_s=CALL_S):
            if answer.create.success and not answer.error:
                self.mine.add(answer.create.id)
                self.there.add(answer.create.id)
                if answer.remove.success:
                    self.gone.add(old)

    async def _realloc(self) -> None:
        step = self.chance.choice([MIB, 4 * MIB])
        bag = {"memory-request": str(step), "memory-limit": str(step), "keep-cpu-bind": True}
        request = pb.ReallocOptions(id=self.one(), resources={"cpumem": json.dumps(bag).encode()})
        await self.core.unary(rpc.ReallocResource, request, timeout_s=CALL_S)

    async def _control(self) -> None:
        kind = self.chance.choice(["stop", "start", "restart", "suspend", "resume"])
        request = pb.ControlWorkloadOptions(IDs=[self.one()], type=kind)
        async for _ in self.core.stream(rpc.ControlWorkload, request, timeout_s=CALL_S):
            pass

    async def _execute(self) -> None:
        async def asked() -> AsyncIterator[pb.ExecuteWorkloadOptions]:
            yield pb.ExecuteWorkloadOptions(workload_id=id, commands=["echo", "here"])

        id = self.one()
        async for _ in self.core.both(rpc.ExecuteWorkload, asked(), timeout_s=CALL_S):
            pass

    async def _run(self) -> None:
        async def asked() -> AsyncIterator[pb.RunAndWaitOptions]:
            yield pb.RunAndWaitOptions(deploy_options=self.options(1, ["sleep", "1"]))

        async for _ in self.core.both(rpc.RunAndWait, asked(), timeout_s=CALL_S):
            pass

    async def _read(self) -> None:
        async for _ in self.core.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions(appname=APP), timeout_s=CALL_S):
            pass


async def strike(cluster: Cluster, chance: random.Random, end: float, struck: Counter[str]) -> None:
    """One fault after another, each healed before the next of this task."""
    while time.monotonic() < end:
        await asyncio.sleep(chance.uniform(2, 10))
        kind, which = chance.choice(sorted(cluster.faults)), chance.randrange(3)
        if not cluster.begin(kind, which):
            continue
        struck[kind] += 1
        print(f"{kind} {which}", flush=True)
        try:
            async with contextlib.AsyncExitStack() as healing:
                await cluster.faults[kind](which, healing)
                await asyncio.sleep(HANG_S if "hangs" in kind else chance.uniform(1, 20))
        finally:
            cluster.end(kind, which)


async def chaos(cluster: Cluster, seconds: float, seed: int) -> list[str]:
    """What does not agree in the end."""
    await cluster.start()
    end = time.monotonic() + seconds
    told, struck = Counter[str](), Counter[str]()
    clients = [Client(cluster, random.Random(f"{seed} {number}"), told) for number in range(CLIENTS)]
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run(end))
        for number in range(2):
            group.create_task(strike(cluster, random.Random(f"{seed} faults {number}"), end - HANG_S, struck))
        group.create_task(cluster.keep_up(end))
    print("calls:", dict(sorted(told.items())))
    print("faults:", dict(sorted(struck.items())))
    there, gone = (
        set[str]().union(*(each.there for each in clients)),
        set[str]().union(*(each.gone for each in clients)),
    )
    endless = [text for each in clients for text in each.endless]
    began = time.monotonic()
    while True:
        await asyncio.sleep(2)
        cluster.revive()
        wrong = await disagreements(cluster, there, gone)
        if not wrong or time.monotonic() > began + HEALED_S:
            print(f"after {time.monotonic() - began:.0f} s: {len(wrong)} disagreements, {len(endless)} endless calls")
            return wrong + endless


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="chaos") as folder, Cluster(Path(folder)) as cluster:
        wrong = asyncio.run(chaos(cluster, options.seconds, options.seed))
    for text in wrong:
        print("WRONG:", text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
