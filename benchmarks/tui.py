"""How soon `eru tui` shows something, with 10,000 instances on fake engines.

    python benchmarks/tui.py [--instances 10000] [--rounds 5]

A core in a process of its own; the program in a pseudo terminal of 120 by 40.
First paint: from the start of the process until a full screen of instances
has been drawn. Complete: until the headline counts all of them. Beside it, in
the same run: `eru --help`, a call that lists pods, and the whole listing.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import platform
import pty
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from eru.lib.world import real_world
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import connect
from support.script_core import running_core

ROWS, COLUMNS = 40, 120
NODES, APPS = 20, 10
ERU = [sys.executable, "-m", "eru"]
LIMIT_S = 60.0


async def fill(address: str, instances: int) -> None:
    """A pod, its nodes, and so many instances that are reported healthy."""
    async with connect(address, world=real_world()) as core:
        await core.unary(rpc.AddPod, pb.AddPodOptions(name="pod"))
        for number in range(NODES):
            endpoint = f"fake://n{number:02}?cpu=24&memory=64G"
            asked = pb.AddNodeOptions(nodename=f"n{number:02}", endpoint=endpoint, podname="pod", test=True)
            await core.unary(rpc.AddNode, asked)
        bag = json.dumps({"cpu-request": 0.01, "memory-request": 1 << 20}).encode()
        ids = []
        for number in range(APPS):
            asked = pb.DeployOptions(
                name=f"shop{number}", podname="pod", image="shop:1", count=instances // APPS,
                entrypoint=pb.EntrypointOptions(name="web"), resources={"cpumem": bag},
            )  # fmt: skip
            ids += [made.id async for made in core.stream(rpc.CreateWorkload, asked)]
        for at in range(0, len(ids), 500):
            status = [pb.WorkloadStatus(id=id_, running=True, healthy=True) for id_ in ids[at : at + 500]]
            await core.unary(rpc.SetWorkloadsStatus, pb.SetWorkloadsStatusOptions(status=status))


def serve(instances: int) -> None:
    """The core's process: says its address when all is there, ends with its input."""
    with running_core() as address:
        asyncio.run(fill(address, instances))
        print(address, flush=True)
        sys.stdin.read()


def painted(address: str, instances: int) -> tuple[float, float]:
    """Seconds to the first paint and to the complete list."""
    started = time.perf_counter()
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "ERU": address, "LANG": "C.UTF-8"}
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.execv(ERU[0], [*ERU, "tui"])
    first = complete = 0.0
    seen = b""
    try:
        while not complete:
            if not select.select([terminal], [], [], LIMIT_S)[0]:
                raise SystemExit(f"nothing came for {LIMIT_S:g} s; so far: {seen[-500:]!r}")
            seen += os.read(terminal, 1 << 16)
            now = time.perf_counter() - started
            if not first and len(set(re.findall(rb"shop\d_web_\w+", seen))) >= ROWS - 5:
                first = now
            if first and b"of %d instances" % instances in seen:
                complete = now
        os.write(terminal, b"q")
        while select.select([terminal], [], [], LIMIT_S)[0] and os.read(terminal, 1 << 16):
            pass
    except OSError:
        pass  # the terminal is gone with its process
    finally:
        os.waitpid(child, 0)
        os.close(terminal)
    return first, complete


def timed(address: str, *words: str) -> float:
    started = time.perf_counter()
    subprocess.run([*ERU, *words], env={**os.environ, "ERU": address}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.instances)
        return
    core = subprocess.Popen(
        [sys.executable, __file__, "--serve", "--instances", str(asked.instances)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert core.stdout is not None
        address = core.stdout.readline().strip()
        if not address:
            raise SystemExit("the core could not be filled")
        rows: dict[str, list[float]] = {}
        for _ in range(asked.rounds):
            first, complete = painted(address, asked.instances)
            rows.setdefault("eru tui, first paint", []).append(first)
            rows.setdefault("eru tui, complete", []).append(complete)
            rows.setdefault("eru --help", []).append(timed(address, "--help"))
            rows.setdefault("eru pod list", []).append(timed(address, "pod", "list"))
            rows.setdefault("eru -o name workload list", []).append(timed(address, "-o", "name", "workload", "list"))
    finally:
        core.send_signal(signal.SIGTERM) if core.stdin is None else core.stdin.close()
        core.wait()
    about = f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"{asked.instances:,} instances; {about}")
    print(f"{'milliseconds':<32}{'best':>8}{'median':>8}")
    for name, found in rows.items():
        print(f"{name:<32}{min(found) * 1000:>8.0f}{statistics.median(found) * 1000:>8.0f}")


if __name__ == "__main__":
    main()
