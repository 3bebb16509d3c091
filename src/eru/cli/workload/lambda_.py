"""`eru lambda`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import click

from eru.cli import names
from eru.cli.exits import Exit, not_found, usage
from eru.cli.lazy import verb
from eru.cli.resolve import told_id
from eru.cli.session import Session
from eru.cli.spec import bags
from eru.cli.spec.read import Spec
from eru.cli.suggest import did_you_mean
from eru.cli.workload import attach, terminal
from eru.cli.workload import deploy_options as options
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

APP = "lambda"


@verb(
    "lambda",
    tail=True,
    examples="""
eru lambda --pod prod --name hello --image alpine -- echo hello
echo data | eru lambda --pod prod --name sum --image alpine --stdin -- sha256sum
eru lambda --pod prod --name nightly --image shop:1.4 --async -- ./report
""",
)
@click.option("--name", default="", help="A name for it.")
@options.pod
@click.option("--node", multiple=True, shell_complete=names.nodes, help="Only this node; can be repeated.")
@click.option("--network", default="", metavar="NAME[=IP]", help="Its network.")
@click.option("--env", multiple=True, metavar="KEY=VALUE", help="Environment; can be repeated.")
@options.user
@click.option("--image", default="alpine:latest", show_default=True, help="Which image to run.")
@click.option("--count", type=int, default=1, show_default=True, help="How many at the same time.")
@click.option("--file", "file_", multiple=True, metavar="SRC:DST[:MODE[:UID:GID]]", help="A file to put in.")
@options.strategy
@click.option("--working-dir", "--working_dir", default="/", show_default=True, help="Where to run it.")
@click.option("-p", "--privileged", is_flag=True, help="With all capabilities.")
@options.resources
@click.option("--volume", multiple=True, help="A volume it may use; can be repeated.")
@click.option("--volume-request", multiple=True, help="A volume that is kept for it; can be repeated.")
@click.option("-s", "--stdin", "stdin_", is_flag=True, help="Pass standard input on.")
@click.option("--async", "detached", is_flag=True, help="Do not wait for the end.")
@click.option("--async-timeout", type=int, default=30, show_default=True, help="Seconds it may take then.")
@click.option("--workload-id", is_flag=True, help="Prefix the output with the workload's id.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
async def lambda_(session: Session, command: tuple[str, ...], **values: Any) -> int:
    """Run a command in a new workload, print its output, remove it; its exit code becomes ours."""
    words = list(command[1:] if command[:1] == ("--",) else command)
    if not words:
        raise usage("no command is given", hint="eru lambda --pod POD --name hello -- echo hello")
    request = _request(session, values, words)
    interactive = values["stdin_"]
    asynchronous = values["detached"]
    first = pb.RunAndWaitOptions(
        deploy_options=request, **{"async": asynchronous}, async_timeout=values["async_timeout"]
    )

    async def requests() -> AsyncIterator[pb.RunAndWaitOptions]:
        yield first
        if interactive:
            async for frame in terminal.input_frames():
                yield pb.RunAndWaitOptions(cmd=frame)
        else:
            yield pb.RunAndWaitOptions(cmd=b"\n")  # published cores wait for one

    answers = session.both(rpc.RunAndWait, requests(), tty=terminal.is_terminal())
    if asynchronous:
        return await _judged(session, values["pod"], await _started(session, answers))
    with terminal.raw() if interactive else nullcontext():
        code = await attach.follow(session, answers, workloads=values["count"], prefix=values["workload_id"])
    return await _judged(session, values["pod"], code)


async def _judged(session: Session, pod: str, code: int) -> int:
    """The exit code; a failure because of an unknown pod is told as that."""
    pods = await names.known(session, "pod") if code == Exit.ERROR else []
    if pods and pod not in pods:
        raise not_found(f"there is no pod {pod!r}", hint=did_you_mean(pod, pods))
    return code


def _request(session: Session, values: dict[str, Any], words: list[str]) -> pb.DeployOptions:
    if not values["pod"]:
        raise usage("--pod is missing", hint="name the pod to run in; `eru pod list` shows them")
    values["entry"] = values["name"] or APP
    options.check(values)
    if values["stdin_"] and (values["count"] != 1 or values["deploy_strategy"].upper() != "AUTO"):
        raise usage("--stdin needs --count 1 and the strategy AUTO")
    if values["stdin_"] and values["detached"]:
        raise usage("--stdin cannot be combined with --async")
    entrypoint = pb.EntrypointOptions(
        name=values["entry"], commands=words, dir=values["working_dir"], privileged=values["privileged"]
    )
    for kind in ("cpu", "memory", "storage"):  # here the short form is the limit, as it ever was
        if values[f"{kind}_limit"] is None:
            values[f"{kind}_limit"], values[kind] = values[kind], None
    absent = {"debug": False, "ignore_hook": False, "after_create": (), "raw_args": ""}
    bag = bags.workload(
        options.wanted(values),
        volumes_request=values["volume_request"],
        volumes_limit=values["volume"],
        extra=values["extra_resources"],
    )
    request = options.message(session, Spec(appname=APP, entrypoint=entrypoint), {**absent, **values}, bag)
    request.open_stdin = values["stdin_"]
    return request


async def _started(session: Session, answers: AsyncIterator[pb.AttachWorkloadMessage]) -> int:
    """Asynchronous: the ids are all there is to wait for."""
    ids, failed = [], 0
    async for answer in answers:
        if answer.std_stream_type == pb.TYPEWORKLOADID and answer.workload_id:
            ids.append(answer.workload_id)
            session.talk.good(f"workload {told_id(session, answer.workload_id)} started")
        elif answer.std_stream_type in (pb.TYPEWORKLOADID, pb.ERUERROR):
            failed += 1
            session.talk.bad(answer.data.decode("utf-8", "replace").rstrip() or "an instance could not be made")
    session.report(ids, lambda: "".join(f"{id_}\n" for id_ in ids), ids)
    if failed:
        return Exit.PARTLY if ids else Exit.ERROR
    return Exit.OK
