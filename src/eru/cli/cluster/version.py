"""`eru version`: of this program and of every core."""

from __future__ import annotations

import os
import sys
from typing import Any

from eru import __version__
from eru.cli.cluster.cores import Answer, ask_each
from eru.cli.exits import Exit
from eru.cli.lazy import verb
from eru.cli.resolve import short
from eru.cli.session import Session
from eru.cli.show.table import render
from eru.model.errors import CoreUnreachable
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

ANSWER_S = 3.0  # of one core


@verb("version", examples="eru version\neru -o json version\neru --version              of this program only")
async def version(session: Session) -> int:
    """Versions of this program and of each core; tells where they differ."""
    python = sys.version.split()[0]
    ours = {"version": __version__, "python": python, "system": f"{sys.platform}/{os.uname().machine}"}
    unreachable = ""
    try:
        answers = await ask_each(session, lambda core: core.unary(rpc.Info, pb.Empty()), limit_s=ANSWER_S)
    except CoreUnreachable as error:
        answers, unreachable = [], str(error)
    cores = [_core(each) for each in answers]
    rows = [[["client"], [""], [__version__], [""], [f"Python {python}, {ours['system']}"]]]
    for each in cores:
        note = each.get("error") or ", ".join(part for part in (each["language"], each["system"]) if part)
        rows.append([["core"], [each["address"]], [each["version"]], [short(each["identifier"])], [note]])
    session.show(
        {"client": ours, "cores": cores},
        lambda: render(["PART", "ADDRESS", "VERSION", "IDENTITY", "ABOUT"], rows),
        [each["version"] for each in cores if each["version"]],
    )
    for line in skew(__version__, {each["address"]: each["version"] for each in cores if each["version"]}):
        session.talk.warn(line)
    if unreachable:
        session.talk.bad(unreachable)
        session.talk.next("eru doctor")
    return Exit.ERROR if unreachable or all("error" in each for each in cores) else Exit.OK


def _core(answer: Answer[pb.CoreInfo]) -> dict[str, Any]:
    told = answer.value or pb.CoreInfo()
    found = {
        "address": answer.address,
        "version": told.version,
        "identifier": told.identifier,
        "revision": told.revison,
        "language": told.golang_version,
        "system": told.os_arch,
    }
    return found | ({"error": str(answer.error)} if answer.error is not None else {})


def skew(client: str, cores: dict[str, str]) -> list[str]:
    """What is worth a warning: cores that differ among each other, and from this program by more than a patch."""
    lines = []
    if len(set(cores.values())) > 1:
        told = ", ".join(f"{address} has {version}" for address, version in sorted(cores.items()))
        lines.append(f"the cores have different versions: {told}")
    ours = _minor(client)
    for version in sorted(set(cores.values())):
        theirs = _minor(version)
        if theirs is not None and ours is not None and theirs != ours:
            older = "this program is older than" if ours < theirs else "this program is newer than"
            lines.append(f"{older} core ({client}, {version}); what only one of them knows is refused with a reason")
    return lines


def _minor(version: str) -> tuple[int, int] | None:
    """(1, 4) of `v1.4.2-rc1`; None for what is no such number, as builds of published cores have it."""
    parts = version.removeprefix("v").split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) >= 2 and parts[0].isdigit() and parts[1].isdigit() else None
