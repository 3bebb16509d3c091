"""`eru workload start|stop|restart|suspend|resume|remove|dissociate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from eru.cli.exits import Exit, explain, human_bytes
from eru.cli.lazy import Verb, verb
from eru.cli.session import Session
from eru.cli.show.resources import totals
from eru.cli.show.talk import counted
from eru.cli.workload.select import Chosen, asking, chosen, confirm, label, plan, selectors, whole
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

_DONE = {
    "start": "started",
    "stop": "stopped",
    "restart": "restarted",
    "suspend": "suspended",
    "resume": "resumed",
    "remove": "removed",
    "dissociate": "dissociated",
}
FINAL = ("remove", "dissociate")  # nothing undoes these


class Tally:
    """One answer per workload; silence is a failure too."""

    def __init__(self, session: Session, action: str, wanted: Sequence[str], named: dict[str, str]) -> None:
        self.session = session
        self.action = action
        self.named = named
        self.waiting = dict.fromkeys(wanted)
        self.done = 0
        self.codes: list[int] = []

    def label(self, id_: str) -> str:
        """Its name if we know it, and a short id."""
        return label(self.session, id_, self.named.get(id_, ""))

    def take(self, id_: str, error: str, hook: str) -> None:
        """Note one answer; a second one for the same workload is only told (hooks of a restart)."""
        talk = self.session.talk
        first = self.waiting.pop(id_, self) is not self
        if error:
            talk.bad(f"{self.label(id_)} was not {_DONE[self.action]}: {error}")
            if first:
                self.codes.append(Exit.ERROR)
        elif first:
            self.done += 1
            talk.good(f"{self.label(id_)} {_DONE[self.action]}")
        for line in hook.splitlines():
            talk.say(f"  hook: {line}")

    def finish(self, failure: RemoteError | None = None) -> int:
        """The exit code. A failed call with nothing done is raised as the problem it is."""
        if failure is not None and not self.done and not self.codes:
            raise explain(failure)
        if failure is not None:
            self.session.talk.bad(str(failure))
        for id_ in self.waiting:
            self.session.talk.bad(f"{self.label(id_)}: core gave no answer")
            self.codes.append(Exit.ERROR)
        if not self.codes:
            return Exit.OK
        self.session.talk.tally(self.done, self.done + len(self.codes), _DONE[self.action])
        return Exit.PARTLY if self.done else Exit.ERROR


async def _chosen(session: Session, values: dict[str, Any], action: str) -> Chosen:
    """What the user named, and, unless it is only a plan, has said yes to."""
    picked = await chosen(session, values, action)
    if not values["dry_run"]:
        confirm(session, action, picked, yes=values["yes"], final=action in FINAL)
    return picked


def _control(action: str, doc: str, consequence: str, examples: str) -> Verb:
    @verb(action, help=doc, examples=examples)
    @selectors
    @click.option("-f", "--force", is_flag=True, help="Go on even if a hook fails.")
    @asking
    async def body(session: Session, force: bool, **values: Any) -> int:
        picked = await _chosen(session, values, action)
        if values["dry_run"]:
            return await plan(session, picked, consequence)
        tally = Tally(session, action, picked.ids, picked.named)
        try:
            async for answer in session.stream(
                rpc.ControlWorkload, pb.ControlWorkloadOptions(IDs=picked.ids, type=action, force=force)
            ):
                tally.take(answer.id, answer.error, answer.hook.decode("utf-8", "replace"))
        except RemoteError as error:
            return tally.finish(error)
        return tally.finish()

    return body


start = _control(
    "start",
    "Start stopped workloads.",
    "be started; what runs already stays as it is",
    "eru workload start 3f2a\neru workload start --app shop --yes",
)
stop = _control(
    "stop",
    "Stop workloads; they keep what they were granted.",
    "be stopped; they keep their resources, and start again with `start`",
    "eru workload stop 3f2a shop_web_aBcDeF\neru workload stop --node web1 --yes",
)
restart = _control(
    "restart",
    "Stop and start workloads.",
    "be stopped and started, all at the same time",
    "eru workload restart --app shop --entry web --yes\neru workload restart 3f2a",
)
suspend = _control(
    "suspend",
    "Freeze workloads where the engine can.",
    "be frozen; they keep their memory and answer nothing",
    "eru workload suspend 3f2a",
)
resume = _control("resume", "Thaw frozen workloads.", "go on where they were frozen", "eru workload resume 3f2a")


@verb("remove", examples="eru workload remove 3f2a\neru workload remove --app shop --entry web --yes")
@selectors
@click.option("-f", "--force", is_flag=True, help="Remove even what still runs or whose hook fails.")
@click.option("-s", "--step", type=int, default=1, hidden=True)
@asking
async def remove(session: Session, force: bool, step: int, **values: Any) -> int:
    """Stop workloads, remove them, and give back what they were granted."""
    picked = await _chosen(session, values, "remove")
    if values["dry_run"]:
        return await _removal(session, await whole(session, picked), force=force)
    return await remove_ids(session, picked.ids, picked.named, force=force)


async def _removal(session: Session, picked: Chosen, *, force: bool) -> int:
    """What a removal would do and give back."""
    running = [each.name for each in picked.found.values() if each.status.running]
    if running and not force:
        what = counted(len(running), "workload")
        session.talk.warn(
            f"{what} {'runs' if len(running) == 1 else 'run'}; without --force only what stands is removed"
        )
    granted = totals([each.resources for each in picked.found.values()])
    back = [
        text
        for text, number in (
            (f"{granted['CPUs']:g} cores", granted["CPUs"]),
            (f"{human_bytes(granted['Memory'])} of memory", granted["Memory"]),
            (f"{human_bytes(granted['Storage'])} of disk", granted["Storage"]),
        )
        if number
    ]
    return await plan(session, picked, f"be removed and give back {', '.join(back) or 'nothing'}")


async def remove_ids(session: Session, wanted: Sequence[str], named: dict[str, str], *, force: bool) -> int:
    """Remove these; one line each."""
    tally = Tally(session, "remove", wanted, named)
    running = False
    try:
        async for answer in session.stream(rpc.RemoveWorkload, pb.RemoveWorkloadOptions(IDs=wanted, force=force)):
            # a failed removal carries its reason where hooks' output goes
            error = "" if answer.success else answer.hook or "core gives no reason"
            running |= "force" in error
            tally.take(answer.id, error, answer.hook if answer.success else "")
    except RemoteError as error:
        return tally.finish(error)
    if running and not force:
        session.talk.next("the same with --force removes what still runs, too")
    return tally.finish()


@verb("dissociate", examples="eru workload dissociate 3f2a\neru workload dissociate --node web1 --yes")
@selectors
@asking
async def dissociate(session: Session, **values: Any) -> int:
    """Forget workloads and give back their grants, without touching what runs."""
    published = session.settings.published and not (values["app"] or values["entry"] or values["label"])
    picked = await _chosen(session, {**values, "yes": values["yes"] or published}, "dissociate")
    if values["dry_run"]:
        return await plan(session, picked, "be forgotten; what runs goes on, and core will not know of it")
    tally = Tally(session, "dissociate", picked.ids, picked.named)
    try:
        async for answer in session.stream(rpc.DissociateWorkload, pb.DissociateWorkloadOptions(IDs=picked.ids)):
            tally.take(answer.id, answer.error, "")
    except RemoteError as error:
        return tally.finish(error)
    return tally.finish()
