"""`eru init`: a first spec, from an image, from what runs, or from a compose file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from eru.cli import names, resolve
from eru.cli.apps import import_
from eru.cli.apps.draft import Draft, app_of_image, literal, name_for, save
from eru.cli.exits import Exit, human_bytes, usage
from eru.cli.lazy import Pod, verb
from eru.cli.parse import size
from eru.cli.session import Session
from eru.cli.show.ask import ask
from eru.cli.show.resources import opened
from eru.model.workloads import LABEL_META, decode_meta
from eru.wire import core_pb2 as pb

_NO_LIMITS = re.compile(r"(:0)+$")
_OURS = ("eru", "ERU")  # what labels of our own begin with


@verb(
    "init",
    examples="""
eru init                                  asks for the image, name and port
eru init shop.yaml --image shop:1.4 --port 8000
eru init shop.yaml --from-app shop/web    from what runs
eru init --from-compose compose.yaml      as eru import
""",
)
@click.argument("file", required=False, default="", type=click.Path())
@click.option("--image", default="", help="Which image it runs.")
@click.option("--app", default="", help="Name of the app.  [default: like the image]")
@click.option("--entry", default="", help="Name of its entrypoint.  [default: main]")
@click.option("--port", "ports", multiple=True, metavar="PORT", help="A port that clients use; can be repeated.")
@click.option("--from-app", default="", metavar="APP[/ENTRY]", shell_complete=names.apps, help="As what runs now.")
@click.option("--from-compose", default="", metavar="FILE", type=click.Path(), help="A spec for each of its services.")
@click.option("--pod", cls=Pod, default="", shell_complete=names.pods, help="For the command that is shown.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
async def init(
    session: Session,
    file: str,
    image: str,
    app: str,
    entry: str,
    ports: tuple[str, ...],
    from_app: str,
    from_compose: str,
    pod: str,
    force: bool,
) -> int:
    """Write a spec to begin with, and show the command that deploys it.

    FILE is APP.yaml if it is not named.
    """
    if from_app and from_compose:
        raise usage("--from-app and --from-compose exclude each other")
    if from_compose:
        made = await import_.load(from_compose, app)
        import_.tell(session, made)
        if file and len(made.drafts) > 1:
            raise usage(f"{from_compose} has {len(made.drafts)} services and makes as many files", hint="name no file")
        places = [file or f"{draft.entry}.yaml" for draft in made.drafts]
        return _write(session, made.drafts, places, pod, force=force)
    if from_app:
        draft = await _from_app(session, from_app, app)
    else:
        draft = _asked(image, app, entry or "main", ports)
    return _write(session, [draft], [file or f"{draft.app}.yaml"], pod or draft.options.pop("--pod", ""), force=force)


def _write(session: Session, drafts: list[Draft], places: list[str], pod: str, *, force: bool) -> int:
    for draft, place in zip(drafts, places, strict=True):
        save(Path(place), draft.text(place, pod), force=force)
        session.talk.good(f"{place}: app {draft.app}, entrypoint {draft.entry}")
    if not session.tables:
        pairs = zip(drafts, places, strict=True)
        session.show([{"file": place, **import_.document(draft, place, pod)} for draft, place in pairs], str, places)
    for draft, place in zip(drafts, places, strict=True):
        session.talk.next(draft.command(place, pod))
    return Exit.OK


def _asked(image: str, app: str, entry: str, ports: tuple[str, ...]) -> Draft:
    """From options; what is missing is asked for on a terminal."""
    asks = not image and sys.stdin.isatty() and sys.stderr.isatty()
    if not image and not asks:
        raise usage("nothing to begin with", hint="give --image IMAGE, --from-app APP or --from-compose FILE")
    if asks:
        image = ask("Image", default=None)
        app = app or ask("Name of the app", default=app_of_image(image))
        if not ports:
            ports = tuple(ask("Ports that clients use").split())
    for port in ports:
        if not port.isdigit():
            raise usage(f"--port {port!r} is not a port", hint="give the port inside, for example --port 8000")
    draft = Draft(name_for(app, "") or app_of_image(image), name_for(entry, "main"), image, publish=list(ports))
    if ports:
        draft.healthcheck = {"tcp_ports": list(ports)}
    draft.restart = "always"
    return draft


async def _from_app(session: Session, what: str, app: str) -> Draft:
    """From the instances that run; what core does not keep is said at the head."""
    found = await resolve.Directory(session).of_app(what)
    if not found:
        await resolve.one(resolve.Directory(session), what)
        raise usage(f"{what!r} is a workload, not an app", hint=f"--from-app {what.rsplit('_', 2)[0]}")
    entries = sorted({each.name.rsplit("_", 2)[1] for each in found})
    if len(entries) > 1:
        name = what.partition("/")[0]
        raise usage(f"{name} has the entrypoints {', '.join(entries)}", hint=f"--from-app {name}/{entries[0]}")
    newest = max(found, key=lambda each: (each.create_time, each.name))
    draft = _of(newest, app or what.partition("/")[0], entries[0])
    draft.count = str(len(found)) if len(found) > 1 else ""
    draft.remarks.append("# Core does not keep commands, hooks, networks' names and log settings: add what is needed.")
    if different := sorted({each.image for each in found} - {newest.image}):
        draft.remarks.append(f"# Some instances still run {', '.join(different)}.")
    if len({each.podname for each in found}) == 1:
        draft.options["--pod"] = newest.podname
    return draft


def _of(workload: pb.Workload, app: str, entry: str) -> Draft:
    meta = decode_meta(workload.labels.get(LABEL_META, ""))
    granted = opened(workload.resources)
    cpumem, storage = granted.get("cpumem", {}), granted.get("storage", {})
    draft = Draft(
        app,
        entry,
        workload.image,
        privileged=workload.privileged,
        publish=list(meta.publish or []),
        labels={key: literal(value) for key, value in sorted(workload.labels.items()) if not key.startswith(_OURS)},
        env=[literal(each) for each in workload.env],
        volumes=[_NO_LIMITS.sub("", each) for each in storage.get("volumes_limit") or [] if isinstance(each, str)],
    )
    if meta.health_check is not None:
        check = meta.health_check
        given = {
            "tcp_ports": list(check.tcp_ports),
            "http_port": check.http_port,
            "url": check.http_url,
            "code": check.http_code,
        }
        draft.healthcheck = {key: value for key, value in given.items() if value}
    draft.options |= _sizes("cpu", cpumem, "{:g}".format) | _sizes("memory", cpumem, _bytes)
    networks = sorted(workload.status.networks)
    if networks:
        draft.options["--network"] = networks[0]
    return draft


def _sizes(what: str, granted: dict[str, Any], told: Callable[[float], str]) -> dict[str, str]:
    """One option where request and limit are the same."""
    request, limit = granted.get(f"{what}_request") or 0, granted.get(f"{what}_limit") or 0
    if request == limit:
        return {f"--{what}": told(limit)} if limit else {}
    pairs = ((f"--{what}-request", request), (f"--{what}-limit", limit))
    return {option: told(number) for option, number in pairs if number}


def _bytes(number: float) -> str:
    """`512M` if that is exactly it."""
    text = human_bytes(number)
    return text if size("", text) == number else str(int(number))
