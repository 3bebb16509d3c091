"""Waiting until workloads are running, or healthy, as their agents report."""

from __future__ import annotations

from collections.abc import Mapping

from eru.cli.exits import Exit, code_of
from eru.cli.session import Session
from eru.cli.show.live import progress
from eru.model.errors import CoreUnreachable, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

POLL_S = 0.5


def state_of(status: pb.WorkloadStatus) -> str:
    """One word for a reported status; a workload that never reported has an empty one."""
    if not status.id and not status.running:
        return "unreported"
    if not status.running:
        return "stopped"
    return "healthy" if status.healthy else "running"


async def wait_healthy(session: Session, wanted: Mapping[str, str], limit_s: float, *, enough: str = "healthy") -> bool:
    """Wait until all (id -> name) are `healthy`, at least `running`, or `removed`; False after `limit_s` seconds.

    What is not there in time is told, with what was last reported.
    """
    good = {"healthy": ("healthy",), "running": ("healthy", "running"), "removed": ("gone",)}[enough]
    states = dict.fromkeys(wanted, "unreported")
    clock = session.world.clock
    started = clock.monotonic()

    def lines(elapsed: float) -> list[str]:
        ready = sum(state in good for state in states.values())
        waiting = [f"{wanted[id_]} {state}" for id_, state in states.items() if state not in good]
        return [f"waiting: {ready} of {len(states)} {enough} · {elapsed:.1f}s", *(f"  {line}" for line in waiting[:10])]

    async with progress(session.talk, session.world, lines):
        while True:
            states.update(await reported(session, list(wanted)))
            if all(state in good for state in states.values()):
                break
            if clock.monotonic() - started > limit_s or (enough != "removed" and "gone" in states.values()):
                break
            await clock.sleep(POLL_S)
    missing = {id_: state for id_, state in states.items() if state not in good}
    if not missing:
        session.talk.good(f"{len(states)} of {len(states)} {enough} after {clock.monotonic() - started:.1f}s")
        return True
    _tell(session, wanted, missing, enough, limit_s)
    return False


def _tell(session: Session, wanted: Mapping[str, str], missing: dict[str, str], enough: str, limit_s: float) -> None:
    words = {
        "unreported": "no agent has reported it",
        "stopped": "it has stopped",
        "running": "it runs, but its health check fails",
        "gone": "it is gone",
    }
    for id_, state in missing.items():
        why = f"it is {state}" if enough == "removed" else words[state]
        session.talk.bad(f"{wanted[id_]} is not {enough} within {limit_s:g}s: {why}")
    first = wanted[next(iter(missing))]
    if enough == "removed":
        session.talk.next(f"eru why {first}")
        return
    session.talk.next("eru doctor" if "unreported" in missing.values() else f"eru workload logs --tail 20 {first}")


async def reported(session: Session, ids: list[str]) -> dict[str, str]:
    """Id -> healthy, running, stopped, unreported or gone."""
    try:
        answer = await session.unary(rpc.GetWorkloadsStatus, pb.WorkloadIDs(IDs=ids))
        return {id_: state_of(status) for id_, status in zip(ids, answer.status, strict=False)}
    except CoreUnreachable:
        return {}
    except RemoteError as error:
        if code_of(error.kind, str(error)) != Exit.NOT_FOUND:
            raise
        if len(ids) == 1:
            return {ids[0]: "gone"}
    states: dict[str, str] = {}
    for id_ in ids:
        states |= await reported(session, [id_])
    return states
