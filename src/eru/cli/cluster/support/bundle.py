"""`eru support bundle`: the state of the cluster in one file, without secrets."""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import sys
import tarfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eru import __version__
from eru.cli.cluster import history
from eru.cli.cluster.cores import ask_each
from eru.cli.cluster.doctor import DOCKER_SOCKET, examined
from eru.cli.cluster.support.scrub import MASK, Scrubber
from eru.cli.cluster.timeline import document
from eru.cli.exits import Exit, Problem, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.document import as_data
from eru.cli.show.live import progress
from eru.cli.show.talk import counted
from eru.cli.show.times import utc
from eru.lib.tasks import map_bounded
from eru.model.errors import EruError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

if TYPE_CHECKING:
    from eru.wire.channel import CoreClient

PART_S = 60.0  # for one part
ASK_S = 10.0  # for one core
CONFIG_BYTES_MAX = 1 << 20  # of one configuration file
CONFIGS = ("/etc/eru/core.yaml", "/etc/eru/agent.yaml")
PARTS_PARALLEL_MAX = 10  # most of them wait for a slow node, if anything
FIGURES_S = 10.0  # for all figures; a node that hangs has none
WITHOUT_CORE = ("settings", "config", "doctor")  # parts that need none

_README = """What `eru support bundle` collected: {when}

versions.json    this program, this machine, and every core
settings.json    the options and ERU_* variables in effect
config/          configuration files of this machine
pods.json, nodes.json, workloads.json, stats.json
cores/           what each core is doing
events.jsonl     what the cores remember
doctor.json      what `eru doctor` finds

Left out: output of workloads, files, certificates and keys. Masked as {mask}: values of environment variables of
workloads, passwords, tokens, credentials in addresses, keys in PEM, wherever they appear. Look through it before you
send it.
"""

Files = dict[str, Any]  # name -> text, or a document that becomes JSON; a list of a `.jsonl` is one line each
Part = Callable[[], Awaitable[Files]]


@verb("bundle", examples="eru support bundle\neru support bundle -o bundle.tar.gz\neru support bundle -o - | tar tzf -")
@click.option("-o", "--file", "target", default="", metavar="FILE",
              help="Where to write it; - is standard output.  [default: eru-support-TIME.tar.gz]")  # fmt: skip
@click.option("--config", multiple=True, metavar="FILE", help="A configuration file to add, masked; can be repeated.")
async def bundle(session: Session, target: str, config: tuple[str, ...]) -> int:
    """Collect versions, configuration, pods, nodes, workloads, events, what each core does, and the doctor's findings.

    Nothing is sent anywhere. Secrets are masked. What cannot be collected is named in the bundle.
    """
    now_ns = session.world.clock.now_ns()
    stem = f"eru-support-{utc(now_ns).replace(':', '').replace('-', '')}"
    target = target or f"{stem}.tar.gz"
    await asyncio.to_thread(_check, target)
    asked = session.settings
    scrubber = Scrubber([asked.password, *(_passwords())])
    files: Files = {"README.txt": _README.format(when=utc(now_ns), mask=MASK)}
    await asyncio.to_thread(_readable, config)
    missing = await _collect(session, scrubber, [*CONFIGS, *_of_up(), *config], files)
    made = _packed(stem, {name: _written(name, content, scrubber) for name, content in files.items()}, now_ns // 10**9)
    await asyncio.to_thread(_write, target, made)
    for name, why in missing.items():
        session.talk.warn(f"without {name}: {why}")
    if target != "-":
        session.show({"file": target, "missing": missing}, lambda: f"{target}\n", [target])
    session.talk.say(
        f"{counted(len(files), 'file')}, {len(made) / 1024:.0f} KiB; secrets are masked, look before you send"
    )
    return Exit.OK


def _of_up() -> list[str]:
    """The files of `eru up`."""
    home = "/var/lib/eru" if os.geteuid() == 0 else os.path.expanduser("~/.local/state/eru")
    state = os.environ.get("ERU_STATE") or home
    return [f"{state}/core.yaml", f"{state}/agent.yaml"]


def _readable(paths: Sequence[str]) -> None:
    """Refuse a file that is asked for and is not there."""
    for path in paths:
        if not Path(path).is_file():
            raise usage(f"--config {path}: there is no such file")


def _passwords() -> list[str]:
    return [value for name, value in os.environ.items() if name.startswith("ERU_") and "PASSWORD" in name]


async def _collect(session: Session, scrubber: Scrubber, configs: list[str], files: Files) -> dict[str, str]:
    """Fill `files`; what is missing, and why."""
    collector = Collector(session, scrubber)
    parts: dict[str, Part] = {
        "versions": collector.versions,
        "settings": collector.settings,
        "config": lambda: collector.configs(configs),
        "pods": collector.pods,
        "nodes": collector.nodes,
        "workloads": collector.workloads,
        "stats": collector.stats,
        "cores": collector.cores,
        "events": collector.events,
        "doctor": collector.doctor,
    }
    missing: dict[str, str] = {}
    waiting: list[str] = []
    try:
        await session.unary(rpc.Info, pb.Empty(), timeout_s=ASK_S)
    except EruError as error:  # nobody has to wait for the same answer ten times
        missing = {name: str(error) for name in parts if name not in WITHOUT_CORE}
        parts = {name: parts[name] for name in WITHOUT_CORE}

    async def one(name: str) -> None:
        waiting.append(name)
        try:
            async with asyncio.timeout(PART_S):
                files.update(await parts[name]())
        except TimeoutError:
            missing[name] = f"not collected within {PART_S:g}s"
        except (EruError, OSError, history.NoEvents) as error:
            missing[name] = str(error) or "this core has none"
        finally:
            waiting.remove(name)

    def lines(elapsed: float) -> list[str]:
        return [f"collecting {', '.join(waiting)} · {elapsed:.1f}s"]

    async with progress(session.talk, session.world, lines):
        await map_bounded(parts, one, PARTS_PARALLEL_MAX)
    if missing:
        files["missing.json"] = missing
    return dict(sorted(missing.items()))


class Collector:
    """One method per part; each gives files by name."""

    def __init__(self, session: Session, scrubber: Scrubber) -> None:
        self.session = session
        self.scrubber = scrubber

    async def versions(self) -> Files:
        async def ask(core: CoreClient) -> dict[str, Any]:
            info = await core.unary(rpc.Info, pb.Empty(), timeout_s=ASK_S)
            return as_data(info)

        answers = await ask_each(self.session, ask, limit_s=ASK_S)
        here = {"eru": __version__, "python": sys.version.split()[0], "system": platform.platform()}
        cores = {each.address: each.value or {"error": str(each.error)} for each in answers}
        return {"versions.json": {"here": here, "cores": cores}}

    async def settings(self) -> Files:
        asked = self.session.settings
        names = ("eru", "username", "context", "tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "production")
        shown = {name: getattr(asked, name) for name in names} | {"password": MASK if asked.password else ""}
        variables = {name: value for name, value in os.environ.items() if name.startswith("ERU")}
        return {"settings.json": {"options": shown, "variables": self.scrubber.data(variables)}}

    async def configs(self, paths: list[str]) -> Files:
        return await asyncio.to_thread(self._configs, paths)

    def _configs(self, paths: list[str]) -> Files:
        import yaml

        files: Files = {}
        for path in paths:
            found = Path(path)
            if not found.is_file():
                continue
            try:
                loaded = yaml.safe_load(found.read_bytes()[:CONFIG_BYTES_MAX])
                text = yaml.safe_dump(self.scrubber.data(loaded), sort_keys=False)
            except yaml.YAMLError:
                text = "this file is not YAML that can be read\n"
            name = found.name
            while f"config/{name}" in files:
                name = f"other-{name}"
            files[f"config/{name}"] = text
        return files

    async def pods(self) -> Files:
        found = (await self.session.unary(rpc.ListPods, pb.Empty(), timeout_s=ASK_S)).pods
        return {"pods.json": [as_data(each) for each in found]}

    async def nodes(self) -> Files:
        found = await self.session.collect(rpc.ListPodNodes, pb.ListNodesOptions(all=True, timeout_in_second=10))
        return {"nodes.json": self.scrubber.data([as_data(each) for each in found])}

    async def workloads(self) -> Files:
        rows = []
        async for each in self.session.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions()):
            row = as_data(each) | ({"env": self.scrubber.env(each.env)} if each.env else {})
            if each.status.extension:
                row["status"]["extension"] = f"{len(each.status.extension)} bytes"
            rows.append(self.scrubber.data(row))
        return {"workloads.json": rows}

    async def stats(self) -> Files:
        found = []
        with suppress(TimeoutError):
            async with asyncio.timeout(FIGURES_S), aclosing(self.session.stream(rpc.Stats, v1.StatsRequest())) as stats:
                async for each in stats:
                    found.append(as_data(each))
        return {"stats.json": found}

    async def cores(self) -> Files:
        async def ask(core: CoreClient) -> dict[str, Any]:
            found = await core.unary(rpc.Debug, v1.DebugRequest(), timeout_s=ASK_S)
            return dict(json.loads(found.json))

        answers = await ask_each(self.session, ask, limit_s=ASK_S)
        return {
            f"cores/{each.address.replace('/', '_').replace(':', '_')}.json": each.value or {"error": str(each.error)}
            for each in answers
        }

    async def events(self) -> Files:
        found = await history.past(self.session, v1.EventsRequest())
        return {"events.jsonl": [document(each) for each in found]}

    async def doctor(self) -> Files:
        findings = [each async for each in examined(self.session, DOCKER_SOCKET)]
        return {"doctor.json": [{"state": each.state, "text": each.text, "cure": each.cure} for each in findings]}


def _written(name: str, content: Any, scrubber: Scrubber) -> str:
    """As it goes into the bundle. Texts are cleaned before they are quoted: quoting would hide parts of secrets."""
    if isinstance(content, str):
        return scrubber.text(content)
    cleaned = scrubber.clean(scrubber.data(content))
    if name.endswith(".jsonl"):
        return "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in cleaned)
    return json.dumps(cleaned, indent=2, ensure_ascii=False) + "\n"


def _packed(stem: str, files: dict[str, str], at_s: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in sorted(files):
            data = files[name].encode()
            entry = tarfile.TarInfo(f"{stem}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), at_s, 0o600
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def _check(target: str) -> None:
    """Refuse a place that cannot be written to before anything is collected for it."""
    path = Path(target)
    if target != "-" and path.exists():
        raise Problem(f"{target} is there already", hint="name another file with -o", code=Exit.USAGE)
    if target != "-" and not path.absolute().parent.is_dir():
        raise usage(f"there is no directory {path.parent}", hint="name a file in one that is there with -o")


def _write(target: str, data: bytes) -> None:
    if target == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
