"""What a container uses, from one of Docker's `stats` answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eru.engine.contract import Figures
from eru.engine.docker.frames import stamp_ns

UNLIMITED = 1 << 60  # cgroup v1 says so for "no limit": more memory than there is


def figures(found: Mapping[str, Any], now_ns: int) -> Figures:
    """`now_ns` stands in for the time of a container that does not run: Docker gives none then."""
    time_ns = _time_ns(str(found.get("read") or ""))
    memory = found.get("memory_stats") or {}
    if time_ns <= 0 or not memory:
        return Figures(time_ns=now_ns)
    details = memory.get("stats") or {}
    cache = int(details.get("inactive_file") or details.get("total_inactive_file") or 0)
    used, limit = int(memory.get("usage") or 0), int(memory.get("limit") or 0)
    networks = (found.get("networks") or {}).values()
    return Figures(
        time_ns=time_ns,
        cpu_ns=int((found.get("cpu_stats") or {}).get("cpu_usage", {}).get("total_usage") or 0),
        memory=max(used - cache, 0),
        memory_limit=limit if limit < UNLIMITED else 0,
        processes=int((found.get("pids_stats") or {}).get("current") or 0),
        received=sum(int(each.get("rx_bytes") or 0) for each in networks),
        sent=sum(int(each.get("tx_bytes") or 0) for each in networks),
    )


def _time_ns(text: str) -> int:
    try:
        return stamp_ns(text)
    except ValueError:
        return 0
