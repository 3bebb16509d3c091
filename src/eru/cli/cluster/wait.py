"""`eru wait`."""

from __future__ import annotations

from typing import Any

import click

from eru.cli import names, resolve
from eru.cli.exits import Exit, Problem
from eru.cli.lazy import verb
from eru.cli.parse import choice, seconds
from eru.cli.session import Session
from eru.cli.workload.health import wait_healthy
from eru.cli.workload.select import meant, selector_options

STATES = ("healthy", "running", "removed")


@verb("wait", examples="eru wait shop/web\neru wait 3f2a --for running --timeout 30s\neru wait shop --for removed")
@click.argument("what", nargs=-1, shell_complete=names.apps_and_workloads)
@selector_options
@click.option(
    *("--for", "enough"),
    default="healthy",
    show_default=True,
    metavar="|".join(STATES),
    shell_complete=names.one_of(*STATES),
    help="What for.",
)
@click.option("--timeout", default="120s", show_default=True, help="How long at most.")
async def wait(session: Session, what: tuple[str, ...], enough: str, timeout: str, **values: Any) -> int:
    """Wait until workloads are healthy, running or removed: ids, names, an app or app/entry.

    Exit code 1 if they are not in time.
    """
    limit_s = seconds("--timeout", timeout)
    state = choice("--for", enough, STATES)
    try:
        found = await meant(session, what, values, "wait for")
    except Problem as problem:
        if state != "removed" or problem.code != Exit.NOT_FOUND:
            raise
        session.talk.good(f"{problem.what.removeprefix('there is ')}")
        return Exit.OK
    named = {each.id: each.name or resolve.short(each.id) for each in found}
    return Exit.OK if await wait_healthy(session, named, limit_s, enough=state) else Exit.ERROR
