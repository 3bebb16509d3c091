"""The steps of a deploy while it runs: live lines on a terminal, one line per step elsewhere; and what is left of one
that was interrupted."""

from __future__ import annotations

from dataclasses import dataclass, field

from eru.cli.exits import Exit, Problem
from eru.cli.session import Session
from eru.cli.show.talk import counted
from eru.model.errors import CoreUnreachable, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

LINES_MAX = 12  # instances shown at the same time on a terminal
TOLD_MAX = 20  # instances of one deploy whose steps are told one by one without a terminal
TAKING_BACK_S = 15.0  # how long core is waited for after an interrupt
LOOK_S = 0.3

_TOLD = ("pulling", "pulled", "created", "started", "hook")  # the rest is told with the result
_WORDS = {
    "planned": "waiting",
    "created": "created, starting",
    "started": "started, inspecting",
    "hook": "hooks",
    "recorded": "recorded",
}


@dataclass
class Steps:
    """What is known of each instance; `take` every event and every result."""

    session: Session
    label: str
    asked: int
    nodes: dict[str, str] = field(default_factory=dict)  # name -> node, all that were planned
    states: dict[str, str] = field(default_factory=dict)  # name -> what happens now
    pulling: dict[str, int] = field(default_factory=dict)  # node -> since when, ns
    pulled_s: float = 0.0  # the longest wait for an image
    done: int = 0
    failed: int = 0

    def take(self, event: v1.Event) -> None:
        """One step."""
        if event.name:
            if event.kind == "planned":
                self.nodes[event.name] = event.nodename
            if event.name in self.nodes:
                self.states[event.name] = _WORDS.get(event.kind, event.kind)
        if event.kind == "pulling":
            self.pulling[event.nodename] = event.time_ns
        elif event.kind == "pulled" and (since := self.pulling.pop(event.nodename, 0)):
            self.pulled_s = max(self.pulled_s, (event.time_ns - since) / 1e9)
        if event.kind in _TOLD and not self.session.talk.live and len(self.nodes) <= TOLD_MAX:
            self.session.talk.say(f"· {_sentence(event)}")

    def ended(self, instance: pb.CreateWorkloadMessage) -> None:
        """An instance has its result."""
        self.states.pop(instance.name, None)
        self.done += instance.success
        self.failed += not instance.success

    def lines(self, elapsed: float) -> list[str]:
        """For the terminal: the sum, then what each unfinished instance is at."""
        total = max(len(self.nodes), self.asked)
        failed = f", {self.failed} failed" if self.failed else ""
        out = [f"deploying {self.label}: {self.done} of {total} done{failed} · {elapsed:.1f}s"]
        waiting = [(name, self._state(name)) for name in self.states]
        width = max((len(name) for name, _ in waiting[:LINES_MAX]), default=0)
        out += [f"  {name.ljust(width)}  {self.nodes[name]}  {state}" for name, state in waiting[:LINES_MAX]]
        more = len(waiting) - LINES_MAX
        return [*out, *([f"  and {more} more"] if more > 0 else [])]

    def _state(self, name: str) -> str:
        state = self.states[name]
        return "pulling the image" if state == "waiting" and self.nodes[name] in self.pulling else state


def _sentence(event: v1.Event) -> str:
    who = f"{event.name} on {event.nodename}" if event.name else f"node {event.nodename}"
    detail = f" {event.detail}" if event.kind in ("pulling", "pulled", "hook") and event.detail else ""
    return f"{who}: {event.kind}{detail}" + (f": {event.error}" if event.error else "")


# -- after an interrupt


async def aftermath(session: Session, app: str, entry: str, steps: Steps, since_ns: int) -> Problem:
    """What stays and what core took back of a deploy whose client left. Ends with the problem to raise."""
    talk = session.talk
    talk.say("\ninterrupted; core takes back what is not finished")
    label = f"{app}/{entry}"
    try:
        there, open_ = await _settled(session, app, entry, steps, since_ns)
    except CoreUnreachable as error:
        return Problem(
            f"interrupted: {steps.done} of {label} were made, of the rest nothing is known",
            why=str(error),
            hint=f"`eru workload list {app}` shows what there is",
            code=Exit.INTERRUPTED,
        )
    stay = [name for name in steps.nodes if name in there]
    back = len(steps.nodes) - len(stay) - len(open_)
    for name in stay:
        talk.good(f"{name} on {steps.nodes[name]} stays")
    if not steps.nodes:
        what = f"interrupted before anything of {label} was planned" if not steps.done else f"interrupted: {steps.done}"
        return Problem(what, hint=f"`eru workload list {app}` shows what there is", code=Exit.INTERRUPTED)
    parts = [f"{len(stay)} of {counted(len(steps.nodes), 'instance')} of {label} stay", f"{back} taken back"]
    if open_:
        parts.append(f"{len(open_)} still on the way back ({', '.join(sorted(open_)[:3])})")
    hint = f"`eru workload list {app}` shows them"
    if stay:
        hint += f"; `eru workload remove {' '.join(stay[:3])}{' ...' if len(stay) > 3 else ''}` removes them"
    return Problem(f"interrupted: {', '.join(parts)}", hint=hint, code=Exit.INTERRUPTED)


async def _settled(session: Session, app: str, entry: str, steps: Steps, since_ns: int) -> tuple[set[str], set[str]]:
    """Names that are recorded, and those of which neither a record nor their release is known in time."""
    clock = session.world.clock
    until = clock.monotonic() + TAKING_BACK_S
    while True:
        listed = await session.collect(rpc.ListWorkloads, pb.ListWorkloadsOptions(appname=app, entrypoint=entry))
        there = {each.name for each in listed}
        open_ = {name for name in steps.nodes if name not in there}
        if not open_:
            return there, open_
        try:
            events = await session.collect(
                rpc.Events, v1.EventsRequest(appname=app, entrypoint=entry, since_ns=since_ns)
            )
        except CoreUnreachable:
            raise
        except RemoteError:
            return there, open_
        open_ -= {event.name for event in events if event.kind in ("released", "recovered")}
        if not open_ or clock.monotonic() > until:
            return there, open_
        await clock.sleep(LOOK_S)
