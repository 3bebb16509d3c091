"""`eru doctor`: what works, what does not, and the cure of each."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Coroutine

import click

from eru.cli.cluster.checks import certificates, cores, here, nodes
from eru.cli.cluster.checks.finding import Finding, within
from eru.cli.exits import Exit
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.table import one_line
from eru.cli.show.talk import GREEN, RED, YELLOW, counted, wants_colour
from eru.lib.tasks import task_owner

DOCKER_SOCKET = "/var/run/docker.sock"
QUICK_S = 15.0  # for one check
NODES_S = 45.0  # for all nodes together

Check = Coroutine[object, object, list[Finding]]


@verb("doctor", examples="eru doctor\neru doctor && echo all is well\neru -o json doctor")
@click.option("--docker", default=DOCKER_SOCKET, show_default=True, help="The Docker socket of this machine.")
async def doctor(session: Session, docker: str) -> int:
    """Check this machine, cores, store, nodes with agents and engines, books, certificates, clocks and workloads.

    Each trouble comes with its cure. Exit code 1 if something is broken.
    """
    found: list[Finding] = []
    async for finding in examined(session, docker):
        found.append(finding)
        if session.tables:
            _print(session, finding)
    if not session.tables:
        session.show(
            [{"state": each.state, "text": each.text, "cure": each.cure} for each in found],
            str,
            [each.text for each in found if each.state != "ok"],
        )
    bad = sum(each.state == "bad" for each in found)
    warned = sum(each.state == "warn" for each in found)
    session.talk.say(f"{counted(len(found), 'check')}: {bad} broken, {warned} to look at")
    return Exit.ERROR if bad else Exit.OK


def _print(session: Session, finding: Finding) -> None:
    mark, colour = {"ok": ("✓", GREEN), "warn": ("!", YELLOW), "bad": ("✗", RED)}[finding.state]
    if wants_colour(sys.stdout):
        mark = f"\x1b[{colour}m{mark}\x1b[0m"
    session.write(f"{mark} {one_line(finding.text)}\n")
    if finding.cure:
        session.write(f"    cure: {finding.cure}\n")


async def examined(session: Session, docker: str) -> AsyncIterator[Finding]:
    """All findings, in the same order each time. The checks run side by side, each with its time limit."""
    async with task_owner("doctor") as owner:

        def begin(what: str, seconds: float, check: Check) -> Coroutine[object, object, list[Finding]]:
            task = owner.start(what, within(seconds, what, check))

            async def wait() -> list[Finding]:
                found: list[Finding] = await task
                return found

            return wait()

        alone = [
            begin("Docker here", QUICK_S, here.docker(docker)),
            begin("the disk here", QUICK_S, here.disk()),
            begin("own certificates", QUICK_S, certificates.own(session.settings, session.world)),
        ]
        first = begin("core", QUICK_S, cores.core(session))
        for waiting in alone:
            for finding in await waiting:
                yield finding
        core = await first
        for finding in core:
            yield finding
        if core[0].state == "bad":
            return
        store = await begin("the store", QUICK_S, cores.store(session))
        for finding in store:
            yield finding
        if store[0].state == "bad":
            return
        rest = [
            begin("all cores", QUICK_S, cores.all_of_them(session)),
            begin("nodes", NODES_S, nodes.nodes(session)),
            begin("workloads", NODES_S, nodes.workloads(session)),
        ]
        for waiting in rest:
            for finding in await waiting:
                yield finding
