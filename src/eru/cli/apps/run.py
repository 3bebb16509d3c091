"""`eru run`: an app without a file."""

from __future__ import annotations

from typing import Any

import click

from eru.cli.apps.draft import app_of_image
from eru.cli.exits import Exit, Problem, usage
from eru.cli.lazy import verb
from eru.cli.parse import pairs, seconds
from eru.cli.session import Session
from eru.cli.spec import bags
from eru.cli.spec.read import Spec
from eru.cli.suggest import did_you_mean
from eru.cli.workload import deploy, plan
from eru.cli.workload import deploy_options as options
from eru.model.errors import InvalidInput
from eru.model.names import check_name
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

ENTRY = "main"  # the entrypoint of an app that has no file


@verb(
    "run",
    tail=True,
    examples="""
eru run nginx
eru run shop:1.4 --count 3 -p 8000 --cpu 0.5 --memory 256M --wait
eru run alpine --name clock --network none sh -c 'while date; do sleep 1; done'
""",
)
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--name", default="", help="Name of the app.  [default: like the image]")
@click.option("--entry", default=ENTRY, show_default=True, help="Name of its entrypoint.")
@click.option("-n", "--count", type=int, default=1, show_default=True, help="How many, as the strategy counts.")
@click.option("-p", "--publish", multiple=True, metavar="PORT", help="A port that clients use; can be repeated.")
@click.option("--volume", multiple=True, metavar="SRC:DST[:FLAGS]", help="A volume; can be repeated.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="A label; can be repeated.")
@click.option("--restart", default="", metavar="no|always|on-failure", help="What the engine does when it ends.")
@click.option("--workdir", default="", help="Working directory.")
@options.where
@options.resources
@options.container
@click.option("--dry-run", is_flag=True, help="Only tell where the instances would go.")
@click.option("--if-rev", type=int, default=0, help="Refuse if the plan is no longer the one of this revision.")
@click.option("--all-or-nothing", is_flag=True, help="Either every instance runs or none is left.")
@click.option("--wait", is_flag=True, help="Wait until the agents report all instances healthy.")
@click.option("--timeout", default="120s", show_default=True, help="How long --wait waits.")
async def run(session: Session, image: str, command: tuple[str, ...], **values: Any) -> int:
    """Run instances of an image without a spec. Options come before IMAGE, what follows is its command."""
    values |= {"image": image}
    options.check(values)
    limit_s = seconds("--timeout", values["timeout"])
    spec = _spec(image, command, values)
    values["pod"] = values["pod"] or await only_pod(session)
    bag = bags.workload(
        options.wanted(values), volumes_request=None, volumes_limit=spec.volumes, extra=values["extra_resources"]
    )
    request = options.message(session, spec, values, bag)
    if values["dry_run"]:
        return await plan.show(session, request)
    outcome = await deploy.run(session, request, if_revision=values["if_rev"], all_or_nothing=values["all_or_nothing"])
    return await deploy.finish(session, request, outcome, wait_s=limit_s if values["wait"] else 0.0)


def _spec(image: str, command: tuple[str, ...], values: dict[str, Any]) -> Spec:
    name = values["name"] or app_of_image(image)
    try:
        check_name("--name", name)
    except InvalidInput as error:
        raise usage(str(error)) from None
    for port in values["publish"]:
        if not port.isdigit():
            raise usage(f"--publish {port!r} is not a port", hint="give the port inside, for example -p 8000")
    words = command[1:] if command[:1] == ("--",) else command
    entrypoint = pb.EntrypointOptions(
        name=values["entry"],
        commands=words,
        publish=values["publish"],
        restart=values["restart"],
        dir=values["workdir"],
    )
    return Spec(name, entrypoint, volumes=list(values["volume"]), labels=pairs("--label", values["label"]))


async def only_pod(session: Session) -> str:
    """The pod to use when none is named: there has to be exactly one. Raises Problem."""
    found = sorted(pod.name for pod in (await session.unary(rpc.ListPods, pb.Empty())).pods)
    if len(found) == 1:
        session.talk.detail(f"pod {found[0]}, the only one")
        return found[0]
    if not found:
        raise Problem("there is no pod yet", hint="eru pod add NAME, then eru node add NAME", code=Exit.NOT_FOUND)
    hint = (
        did_you_mean("default", found) or f"--pod {found[0]}, or for the context: eru context set NAME --pod {found[0]}"
    )
    raise usage(f"--pod is missing, and there are {len(found)}", why=", ".join(found[:8]), hint=hint)
