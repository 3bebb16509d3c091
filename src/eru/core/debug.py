"""What a core is doing right now, as plain data. No secrets, no request contents."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from typing import Any

from eru.core.app import Core
from eru.wire.server import RpcServer

TASKS_MAX = 500  # names listed
INTENTS_MAX = 500  # listed, by name


def dump(core: Core, server: RpcServer | None = None) -> dict[str, Any]:
    """JSON-ready: identity, view, queues, operations, calls and tasks."""
    identity = core.session.current()
    counters = core.committer.counters
    return {
        "core": {
            "id": core.session.id,
            "ready": core.ready,
            "draining": core.draining,
            "time": round(core.world.clock.now(), 3),
        },
        "session": {"margin_s": round(identity.margin_s(), 3) if identity else 0},
        "view": {
            "revision": core.fleet.revision,
            "rebuilds": core.fleet.rebuilds,
            "nodes": len(core.fleet.view.by_name),
            "intents": len(core.fleet.view.intents),
        },
        "commits": {
            "transactions": counters.transactions,
            "changes": counters.changes,
            "conflicts": counters.conflicts,
            "unknown": counters.unknown,
            "waiting": core.committer.waiting,
        },
        "engines": {"unreachable": core.engines.unreachable_nodes()},
        "operations": {"active": sorted(core.active), "background": core.background.names()[:TASKS_MAX]},
        "intents": _intents(core),
        "recovery": {"swept": core.recovery.swept},
        "remap": {"updated": core.remapper.updated, "failed": core.remapper.failed},
        "calls": server.calls() if server is not None else [],
        "tasks": _tasks(),
    }


def _intents(core: Core) -> list[dict[str, Any]]:
    """What is being done with which workload, by which core; nothing of the request."""
    now = core.world.clock.now()
    rows = heapq.nsmallest(INTENTS_MAX, core.fleet.view.intents.items())
    return [
        {
            "op": found.intent.op,
            "verb": found.intent.verb.value,
            "owner": found.intent.owner,
            "node": found.intent.nodename,
            "workload": found.intent.name,
            "seconds": round(now - found.intent.created_at, 3) if found.intent.created_at else None,
        }
        for _, found in rows
    ]


def _tasks() -> dict[str, Any]:
    """How many tasks there are, and where how many of them wait."""
    tasks = asyncio.all_tasks()
    places = Counter(_place(task) for task in tasks)
    return {"count": len(tasks), "places": dict(places.most_common(TASKS_MAX))}


def _place(task: asyncio.Task[Any]) -> str:
    stack = task.get_stack(limit=1)
    if not stack:
        return "ending"
    code = stack[0].f_code
    return f"{code.co_qualname} {code.co_filename.rpartition('/')[2]}:{stack[0].f_lineno}"
