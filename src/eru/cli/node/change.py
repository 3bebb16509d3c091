"""`eru node add|set`."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from eru.cli import names
from eru.cli.exits import Exit, usage
from eru.cli.lazy import verb
from eru.cli.node.verbs import show
from eru.cli.parse import pairs
from eru.cli.session import Session
from eru.cli.settings import Settings
from eru.cli.show import tables
from eru.cli.show.document import as_data
from eru.cli.spec import bags
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

DOCKER_TLS = Path("/etc/docker/tls")  # where published clients look for certificates
_TLS_FILES = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}
_SCHEMES = ("unix://", "tcp://", "fake://", "mock://", "virt-grpc://", "process://", "systemd://", "ssh://")

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _options(*options: Decorator) -> Decorator:
    def apply(body: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            body = option(body)
        return body

    return apply


_engine = _options(
    click.option("--ca", default="", metavar="FILE", type=click.Path(), help="Authority of the engine's certificate."),
    click.option("--cert", default="", metavar="FILE", type=click.Path(), help="Certificate to show to the engine."),
    click.option("--key", default="", metavar="FILE", type=click.Path(), help="Its private key."),
    click.option("--tls-default", is_flag=True, help=f"Take these three files from {DOCKER_TLS}."),
)
_resources = _options(
    click.option("--numa-cpu", multiple=True, metavar="CORES", help="Cores of the next NUMA node, with commas."),
    click.option("--numa-memory", multiple=True, metavar="SIZE", help="Memory of the next NUMA node."),
    click.option("--storage", default="", metavar="SIZE", help="Disk space for workloads."),
    click.option("--volume", multiple=True, metavar="DIR:SIZE", help="A directory for volumes; can be repeated."),
    click.option("--disk", multiple=True, metavar="DEV:MOUNTS:RIOPS:WIOPS:RBPS:WBPS", help="A disk and its limits."),
    click.option("--label", multiple=True, metavar="KEY=VALUE", help="A label; can be repeated."),
    click.option("--extra-resources", default="", metavar="JSON", help="Further resource kinds."),
)


@verb(
    "add",
    examples="""
eru node add prod --nodename web1 --endpoint tcp://10.0.0.5:2376 --ca ca.pem --cert cert.pem --key key.pem
eru node add prod --endpoint unix:///var/run/docker.sock --cpu 8 --memory 16G --label zone=a
""",
)
@click.argument("pod", shell_complete=names.pods)
@click.option("--nodename", envvar="HOSTNAME", default="", help="Its name.  [default: this machine's]")
@click.option("--endpoint", default="", help="Its engine: unix:///path or tcp://host:port.  [default: this machine's]")
@_engine
@click.option("--cpu", type=int, default=None, help="Cores for workloads.  [default: all]")
@click.option("--share", type=int, default=None, help="Pieces a core is divided into.")
@click.option("--memory", default="", metavar="SIZE", help="Memory for workloads.  [default: 80%]")
@_resources
@click.option("--test", is_flag=True, help="It counts as alive without an agent.")
async def add(session: Session, pod: str, **values: Any) -> None:
    """Add a node to a pod; core connects to its engine at once."""
    files = _tls_files(values)
    asked = pb.AddNodeOptions(
        nodename=values["nodename"] or socket.gethostname(),
        endpoint=_endpoint(values["endpoint"]) or _default_endpoint(session.settings, bool(files["ca"])),
        podname=pod,
        labels=pairs("--label", values["label"]),
        resources=bags.encoded(bags.node_bags(values)),
        test=values["test"],
        ca=files["ca"],
        cert=files["cert"],
        key=files["key"],
    )
    async with names.naming(session, "pod", pod):
        node = await session.unary(rpc.AddNode, asked)
    show(session, node, info=False)
    if not node.test:
        session.talk.say(f"node {node.name} takes workloads when its agent reports")
        session.talk.next(f"eru agent --config /etc/eru/agent.yaml     on {node.name}, then: eru doctor")


@verb(
    "set",
    examples="""
eru node set web1 --memory 32G
eru node set web1 --memory 1G --delta            one more
eru node set web1 --label zone=b --label disk=ssd   replaces all labels
eru node set web1 --mark-workloads-down
""",
)
@click.argument("name", shell_complete=names.nodes)
@click.option("--endpoint", default="", help="New address of its engine.")
@_engine
@click.option("--cpu", default="", metavar="CORES", help="Number of cores, or pieces per core: 0:100,1:200.")
@click.option("--share", type=int, default=None, help="Pieces a core is divided into.")
@click.option("--memory", default="", metavar="SIZE", help="Memory for workloads.")
@_resources
@click.option("--rm-disk", default="", metavar="DEVICES", help="Disks to forget, with commas.")
@click.option("--delta", is_flag=True, help="Numbers are changes to what is there; they may be negative.")
@click.option("--mark-workloads-down", is_flag=True, help="Mark the status of all its workloads as not running.")
@click.option("--dry-run", is_flag=True, help="Only tell what would change.")
async def set_(session: Session, name: str, **values: Any) -> int:
    """Change a node. What is not given stays as it is."""
    values["cpu"] = _cores(values["cpu"])
    if not values["delta"]:
        for option in ("cpu", "memory", "storage"):
            if str(values[option]).startswith("-"):
                raise usage(f"--{option} {values[option]} is below zero", hint="add --delta to take something away")
    files = _tls_files(values)
    asked = pb.SetNodeOptions(
        nodename=name,
        ca=files["ca"],
        cert=files["cert"],
        key=files["key"],
        endpoint=_endpoint(values["endpoint"]),
        labels=pairs("--label", values["label"]),
        resources=bags.encoded(bags.node_bags(values)),
        delta=values["delta"],
        workloads_down=values["mark_workloads_down"],
    )
    async with names.naming(session, "node", name):
        if values["dry_run"]:
            from eru.cli.node import plan

            return await plan.show(session, asked, values)
        node = await session.unary(rpc.SetNode, asked)
    session.report(as_data(node), lambda: tables.nodes([node], info=True), [node.name])
    return Exit.OK


def _cores(text: str) -> int | str:
    """A core count as a number, pieces per core as they are; published cores do not survive other texts."""
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if text and not re.fullmatch(r"\d+:-?\d+(,\d+:-?\d+)*", text):
        raise usage(
            f"--cpu {text!r} is neither a number of cores nor pieces per core", hint="for example 8 or 0:100,1:50"
        )
    return text


def _tls_files(values: dict[str, Any]) -> dict[str, str]:
    """The contents of the three files that were asked for, and of no others."""
    contents: dict[str, str] = {}
    for part, default in _TLS_FILES.items():
        path = values[part] or (str(DOCKER_TLS / default) if values["tls_default"] else "")
        try:
            contents[part] = Path(path).read_text() if path else ""
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise usage(f"--{part} {path}: {reason}", hint="give the path of a PEM file") from None
    return contents


def _endpoint(text: str) -> str:
    if text and not text.startswith(_SCHEMES):
        hint = f"unix://{text}" if text.startswith("/") else f"tcp://{text}"
        raise usage(f"--endpoint {text!r} has no scheme that core knows", hint=f"did you mean {hint}?")
    return text


_HERE = re.compile(r"(localhost|127\.[0-9.]+|\[::1\]):\d+|unix:.*")


def _default_endpoint(settings: Settings, tls: bool) -> str:
    """This machine's own address with Docker's port, as published clients fill it in.

    Its socket only where core is on this machine, too: core is who opens it.
    """
    local = _HERE.fullmatch(settings.eru) is not None and not settings.published
    if local and not tls and os.path.exists("/var/run/docker.sock"):
        return "unix:///var/run/docker.sock"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing; tells the address the machine would use
            address = probe.getsockname()[0]
    except OSError:
        raise usage("no --endpoint is given and this machine has no address to guess one from") from None
    return f"tcp://{address}:{2376 if tls else 2375}"
