"""The options of deploy, scale, replace and lambda, and the message they make."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import click

from eru.cli import names
from eru.cli.exits import usage
from eru.cli.lazy import Pod
from eru.cli.parse import choice, pairs
from eru.cli.session import Session
from eru.cli.spec import bags, files
from eru.cli.spec.read import Spec
from eru.model.errors import InvalidInput
from eru.model.names import check_entrypoint
from eru.wire import core_pb2 as pb

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
STRATEGIES = ("AUTO", "FILL", "EACH", "GLOBAL", "DRAINED", "DUMMY")
COUNT_MAX = 2**31 - 1
DEFAULT_CPU = 1.0
DEFAULT_MEMORY = "512M"


def together(*options: Decorator) -> Decorator:
    """Several options as one decorator, shown in this order."""

    def apply(body: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            body = option(body)
        return body

    return apply


def _strategies(ctx: click.Context, param: click.Parameter, text: str) -> list[str]:
    return [name for name in STRATEGIES if name.startswith(text.upper())]


strategy = click.option(
    "--deploy-strategy",
    default="AUTO",
    metavar="|".join(STRATEGIES[:5]),
    shell_complete=_strategies,
    help="How to spread.",
)
pod = click.option(
    "--pod", cls=Pod, default="", shell_complete=names.pods, help="Where to run.  [default: the context's]"
)
where = together(
    pod,
    click.option("--node", multiple=True, shell_complete=names.nodes, help="Only this node; can be repeated."),
    click.option("--nodelabel", multiple=True, metavar="KEY=VALUE", help="Only nodes with this label."),
    strategy,
    click.option("--nodes-limit", type=int, default=0, help="What the strategy says: per node, or how many nodes."),
)
resources = together(
    click.option("--cpu", type=float, default=None, help="Cores: request and limit.  [default: 1]"),
    click.option("--cpu-request", type=float, default=None, help="Cores that are kept for it."),
    click.option("--cpu-limit", type=float, default=None, help="Cores it can use at most.  [default: 1]"),
    click.option("--memory", default=None, metavar="SIZE", help="Memory: request and limit.  [default: 512M]"),
    click.option("--memory-request", default=None, metavar="SIZE", help="Memory that is kept for it."),
    click.option("--memory-limit", default=None, metavar="SIZE", help="Memory it can use.  [default: 512M]"),
    click.option("--storage", default=None, metavar="SIZE", help="Disk space: request and limit."),
    click.option("--storage-request", default=None, metavar="SIZE", help="Disk space that is kept for it."),
    click.option("--storage-limit", default=None, metavar="SIZE", help="Disk space it can use at most."),
    click.option("--cpu-bind", is_flag=True, help="It gets cores of its own."),
    click.option("--extra-resources", default="", metavar="JSON", help="Further resource kinds."),
)
user = click.option("--user", default=None, help="Who it runs as.  [default: the image's user; root for eru-cli]")
container = together(
    click.option("--network", default="host", show_default=True, metavar="NAME[=IP]", help="Its network."),
    click.option("--env", multiple=True, metavar="KEY=VALUE", help="Environment; can be repeated."),
    click.option("--file", "file_", multiple=True, metavar="SRC:DST[:MODE[:UID:GID]]", help="A file to put in."),
    user,
    click.option("--debug", is_flag=True, help="Have core print what happens inside."),
    click.option("--ignore-hook", is_flag=True, help="Do not run the hooks of the spec."),
    click.option("--after-create", multiple=True, metavar="COMMAND", help="Run this inside before the start."),
    click.option("--raw-args", default="", metavar="JSON", help="Engine settings, for example capabilities."),
)
wait = together(
    click.option(
        "--wait",
        type=click.Choice(["healthy", "running"]),
        is_flag=False,
        flag_value="healthy",
        default=None,
        help="Wait until the agents report the new instances so.  [without a word: healthy]",
    ),
    click.option("--timeout", default="120s", show_default=True, metavar="TIME", help="How long --wait waits."),
)


def wanted(values: dict[str, Any], *, defaults: bool = True) -> bags.Wanted:
    """What the resource options say; `defaults`: 1 core and 512M as limits when nothing else is given."""
    given: dict[str, Any] = {key: values.get(key) for key in bags.Wanted.__dataclass_fields__}
    found = bags.Wanted(**{**given, "cpu_bind": bool(given["cpu_bind"])})
    if defaults:
        found.cpu_limit = DEFAULT_CPU if found.cpu_limit is None else found.cpu_limit
        found.memory_limit = DEFAULT_MEMORY if found.memory_limit is None else found.memory_limit
    return found


def require(values: dict[str, Any], *options: str) -> None:
    """The first of these that is not given is told."""
    for option in options:
        if not values[option]:
            raise usage(f"--{option} is missing", hint=_REQUIRED[option])


_REQUIRED = {
    "pod": "name the pod to run in; `eru pod list` shows them",
    "entry": "name one of the entrypoints of the spec",
    "image": "name the image to run",
}


def check(values: dict[str, Any]) -> None:
    """Refuse what core would refuse or misread, before anything is sent."""
    try:
        check_entrypoint(values["entry"])
    except InvalidInput as error:
        raise usage(f"--entry: {error}") from None
    if not 1 <= values["count"] <= COUNT_MAX:
        raise usage(f"--count {values['count']} is not possible", hint=f"give a number from 1 to {COUNT_MAX}")
    if values.get("nodes_limit", 0) < 0:
        raise usage(f"--nodes-limit {values['nodes_limit']} is below zero")


def network(text: str) -> dict[str, str]:
    """`name` or `name=ip` as the message has it; "" is no network."""
    if not text:
        return {}
    if text.count("=") > 1:
        raise usage(f"--network {text!r} is not of the form name or name=ip")
    name, _, address = text.partition("=")
    if address:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise usage(f"--network {text!r}: {address!r} is not an IP address") from None
    if not name:
        raise usage(f"--network {text!r} has no name")
    return {name: address}


def effective_user(session: Session, given: str | None) -> str:
    """The published program always says root; ours leaves it to the image."""
    if given is not None:
        return given
    return "root" if session.settings.published else ""


def message(
    session: Session, spec: Spec, values: dict[str, Any], resource_bags: dict[str, Any] | None
) -> pb.DeployOptions:
    """The whole request. `resource_bags` None: none are sent (replace keeps the old ones)."""
    packed = files.packed(values["file_"])
    raw = values["raw_args"]
    if raw:
        from eru.cli.parse import json_object

        json_object("--raw-args", raw)
    for item in values["env"]:
        if "=" not in item and not session.settings.published:  # to Docker, a name alone is one to leave out
            raise usage(f"--env {item!r} is not of the form KEY=VALUE")
    strategy = choice("--deploy-strategy", values.get("deploy_strategy", "AUTO"), STRATEGIES)
    return pb.DeployOptions(
        name=spec.appname,
        entrypoint=spec.entrypoint,
        podname=values["pod"],
        node_filter=pb.NodeFilter(includes=values["node"], labels=pairs("--nodelabel", values.get("nodelabel", ()))),
        image=values["image"],
        count=values["count"],
        env=values["env"],
        dns=spec.dns,
        extra_hosts=spec.extra_hosts,
        networks=network(values["network"]),
        user=effective_user(session, values["user"]),
        debug=values["debug"],
        labels=spec.labels,
        deploy_strategy=pb.DeployOptions.Strategy.Value(strategy),
        data=packed.data,
        modes=packed.modes,
        owners=packed.owners,
        nodes_limit=values.get("nodes_limit", 0),
        ignore_hook=values["ignore_hook"],
        after_create=values["after_create"],
        raw_args=raw.encode(),
        resources=bags.encoded(resource_bags) if resource_bags is not None else {},
    )


def spec_bags(spec: Spec, values: dict[str, Any]) -> dict[str, Any]:
    """Resources of a deploy: the options, and the volumes of the spec."""
    return bags.workload(
        wanted(values),
        volumes_request=spec.volumes_request,
        volumes_limit=spec.volumes,
        extra=values["extra_resources"],
    )
