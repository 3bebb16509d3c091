"""`eru workload replace`: new instances for old ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace as replace_
from typing import Any

import click

from eru.cli import names
from eru.cli.exits import Exit, Problem, explain, usage
from eru.cli.lazy import verb
from eru.cli.parse import pairs
from eru.cli.resolve import told_id
from eru.cli.session import Session
from eru.cli.show import changes
from eru.cli.show.changes import Change
from eru.cli.show.document import as_data
from eru.cli.show.tables import addresses
from eru.cli.show.talk import counted
from eru.cli.spec.read import load
from eru.cli.workload import deploy_options as options
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb(
    "replace",
    examples="""
eru workload replace web.yaml --pod prod --entry web --image shop:1.5
eru workload replace web.yaml --entry web --image shop:1.5 --node web1 --copy /data/cache:/data/cache
""",
)
@click.argument("spec", type=click.Path())
@click.option("--pod", default="", shell_complete=names.pods, help="Only instances in this pod.")
@click.option("--entry", default="", shell_complete=names.spec_entries, help="Which entrypoint of the spec.")
@click.option("--image", default="", help="Which image to run.")
@click.option("--node", multiple=True, shell_complete=names.nodes, help="Only on this node; can be repeated.")
@click.option("--count", type=int, default=1, show_default=True, help="How many at the same time.")
@click.option("--network-inherit", is_flag=True, help="Keep the networks and addresses of the old instance.")
@click.option("--network", default="", metavar="NAME[=IP]", help="A network instead of the old one's.")
@click.option("--env", multiple=True, metavar="KEY=VALUE", help="Environment; can be repeated.")
@options.user
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only instances with this label.")
@click.option("--file", "file_", multiple=True, metavar="SRC:DST[:MODE[:UID:GID]]", help="A file to put in.")
@click.option("--copy", multiple=True, metavar="SRC:DST", help="A file to copy from the old into the new instance.")
@click.option("--debug", is_flag=True, help="Have core print what happens inside.")
@click.option("--ignore-hook", is_flag=True, help="Do not run the hooks of the spec.")
@click.option("--after-create", multiple=True, metavar="COMMAND", help="Run this inside before the start.")
@click.option("--dry-run", is_flag=True, help="Only tell what would change.")
async def replace(session: Session, spec: str, **values: Any) -> int:
    """Replace instances by new ones that keep the resources of the old. The old one survives a failed new one."""
    options.require(values, "entry", "image")
    options.check(values)
    inherit = values["network_inherit"]
    if values["network"] and inherit:
        session.talk.warn("--network is given, so networks are not inherited")
        inherit = False
    copies = {}
    for item in values["copy"]:
        source, colon, target = item.partition(":")
        if not (source and colon and target):
            raise usage(f"--copy {item!r} is not of the form src:dst")
        copies[source] = target
    parsed = await load(spec, values["entry"], session.settings)
    for warning in parsed.warnings:
        session.talk.warn(warning)
    request = options.message(session, parsed, {**values, "raw_args": ""}, None)
    asked = pb.ReplaceOptions(
        deployOpt=request, networkinherit=inherit, filter_labels=pairs("--label", values["label"]), copy=copies
    )
    if values["dry_run"]:
        return await _plan(session, asked, values)
    return await run(session, asked, concurrency=values["count"])


# -- plan


async def _plan(session: Session, asked: pb.ReplaceOptions, values: dict[str, Any]) -> int:
    """Which instances, and what would be different in the new ones."""
    new = asked.deployOpt
    listed = pb.ListWorkloadsOptions(appname=new.name, entrypoint=new.entrypoint.name, labels=asked.filter_labels)
    found = [
        each
        for each in await session.collect(rpc.ListWorkloads, listed)
        if (not new.podname or each.podname == new.podname)
        and (not new.node_filter.includes or each.nodename in new.node_filter.includes)
    ]
    if not found:
        raise _nothing(new)
    seen: dict[Change, int] = {}
    for each in found:
        for change in differences(each, asked):
            seen[change] = seen.get(change, 0) + 1
    shown = [
        replace_(change, how=f"in {count} of {len(found)}: a new instance in its place")
        for change, count in seen.items()
    ]
    session.show(changes.data(shown), lambda: changes.table(shown), sorted(each.name for each in found))
    if not shown:
        session.talk.say("as far as core knows, the new instances would be as the old ones")
    session.talk.say(
        f"{counted(len(found), 'instance')} would be replaced, {values['count']} at a time: the old one stops, the new "
        "one takes its place and resources; where that fails, the old one is started again. Command, user and files "
        "are not compared: core does not keep them. Nothing was changed"
    )
    return Exit.OK


def differences(old: pb.Workload, asked: pb.ReplaceOptions) -> list[Change]:
    """What would be different, of what core knows about an instance: image, environment, labels, networks."""
    new = asked.deployOpt
    own = {key: value for key, value in old.labels.items() if not key.startswith(("ERU", "eru"))}
    found = [
        Change("image", old.image, new.image),
        Change("env", changes.words(old.env), changes.words(new.env)),
        Change("labels", _pairs(own), _pairs(new.labels)),
        Change("privileged", str(old.privileged).lower(), str(new.entrypoint.privileged).lower()),
    ]
    if not asked.networkinherit:
        before = {*old.publish, *old.status.networks}
        if before:
            found.append(Change("networks", changes.words(list(before)), changes.words(list(new.networks))))
    return [each for each in found if each.real]


def _pairs(labels: Mapping[str, str]) -> str:
    return changes.words([f"{key}={value}" for key, value in labels.items()])


def _nothing(new: pb.DeployOptions) -> Problem:
    return Problem(
        f"{new.name}/{new.entrypoint.name} has no instances to replace",
        hint=f"eru workload deploy ... --entry {new.entrypoint.name}",
        code=Exit.NOT_FOUND,
    )


async def run(session: Session, asked: pb.ReplaceOptions, *, concurrency: int) -> int:
    """Replace and tell, one line per instance; exit code 1 when some were not replaced."""
    done, failed, seen = 0, 0, []
    label = f"{asked.deployOpt.name}/{asked.deployOpt.entrypoint.name}"
    asked.deployOpt.count = concurrency
    try:
        async for answer in session.stream(rpc.ReplaceWorkload, asked):
            seen.append(answer)
            if _tell(session, answer):
                done += 1
            else:
                failed += 1
    except RemoteError as error:
        if not done and not failed:
            raise explain(error) from None
        session.talk.bad(str(error))
        failed += 1
    if not seen and not failed:
        raise _nothing(asked.deployOpt)
    if not session.tables:
        session.show([as_data(each) for each in seen], str, [each.create.id for each in seen if not each.error])
    session.talk.say(f"replaced {done} of {done + failed} {label}")
    if not failed:
        return Exit.OK
    return Exit.PARTLY if done else Exit.ERROR


def _tell(session: Session, answer: pb.ReplaceWorkloadMessage) -> bool:
    """One line; the outer error counts, whatever the parts say."""
    old = told_id(session, answer.remove.id) or "an instance"
    if answer.error:
        session.talk.bad(f"{old} was not replaced: {answer.error}")
        if answer.create.id:
            session.talk.warn(f"the new instance {answer.create.name} ({told_id(session, answer.create.id)}) was made")
    else:
        new = f"{answer.create.name} on {answer.create.nodename}  {addresses(answer.create.publish, {})}".rstrip()
        session.talk.good(f"{old} -> {new}")
    hooks = [*answer.remove.hook.splitlines(), *answer.create.hook.decode("utf-8", "replace").splitlines()]
    for line in hooks:
        if line not in answer.error:  # why the old one was started again is told already
            session.talk.say(f"  hook: {line}")
    return not answer.error
