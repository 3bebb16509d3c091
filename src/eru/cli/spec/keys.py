"""Every key of a spec: its type and meaning. What reads, checks, explains and publishes specs follows this table.

A path has `NAME` where any name may stand. Keys that begin with `x-` are
nobody's: room for anchors and notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

ANY = "NAME"
NOTE = "x-"  # what keys of nobody begin with


class Kind(Enum):
    """What may stand at a key, in words for people."""

    TEXT = "text"
    TEXTS = "list of text"
    PAIRS = "mapping of text"
    TRUTH = "true or false"
    NUMBER = "number"
    DURATION = "duration"
    THRESHOLD = "number from 1 to 9999"
    COMMAND = "command"
    MAPPING = "mapping"


@dataclass(frozen=True)
class Key:
    """One key. `example` is what an editor shows; `unused`: read by nobody any more."""

    kind: Kind
    meaning: str
    unused: bool = False


def _k(kind: Kind, meaning: str, *, unused: bool = False) -> Key:
    return Key(kind, meaning, unused)


_T, _L, _P, _B, _N, _D, _M = (
    *(Kind.TEXT, Kind.TEXTS, Kind.PAIRS, Kind.TRUTH, Kind.NUMBER, Kind.DURATION, Kind.MAPPING),
)
_ENTRY = f"entrypoints.{ANY}"
_HEALTH = f"{_ENTRY}.healthcheck"
_HOOK = f"{_ENTRY}.hook"
_BUILD = f"builds.{ANY}"

KEYS: dict[str, Key] = {
    "appname": _k(_T, "name of the app; part of every workload's name"),
    "entrypoints": _k(_M, "ways to start the app, by name; --entry chooses one; no _ in the name"),
    f"{_ENTRY}.commands": _k(_L, "the program and its arguments, word by word"),
    f"{_ENTRY}.cmd": _k(_T, "the same as one line, split at spaces; only without commands"),
    f"{_ENTRY}.privileged": _k(_B, "run with all capabilities"),
    f"{_ENTRY}.dir": _k(_T, "working directory"),
    f"{_ENTRY}.restart": _k(_T, "what the engine does when it ends: no, always, on-failure[:times]"),
    f"{_ENTRY}.publish": _k(_L, "ports that clients use; shown as addresses, given to load balancers"),
    f"{_ENTRY}.sysctls": _k(_P, "kernel settings of the workload"),
    f"{_ENTRY}.log": _k(_M, "log driver of the engine"),
    f"{_ENTRY}.log.type": _k(_T, "its name: json-file, journald, ..."),
    f"{_ENTRY}.log.config": _k(_P, "its options"),
    _HEALTH: _k(_M, "what the agent probes; without it, running is healthy"),
    f"{_HEALTH}.tcp_ports": _k(_L, "ports that must accept connections"),
    f"{_HEALTH}.http_port": _k(_T, "port that must answer HTTP"),
    f"{_HEALTH}.url": _k(_T, "path that is asked for"),
    f"{_HEALTH}.code": _k(_N, "status it must answer with; 0: anything from 200 to 499"),
    f"{_HEALTH}.interval": _k(_D, "between two probes: 5s, 1m30s"),
    f"{_HEALTH}.timeout": _k(_D, "of one probe"),
    f"{_HEALTH}.healthy_threshold": _k(Kind.THRESHOLD, "good results in a row before it is healthy"),
    f"{_HEALTH}.unhealthy_threshold": _k(Kind.THRESHOLD, "bad results in a row before it is unhealthy"),
    f"{_HEALTH}.exec": _k(Kind.COMMAND, "a command inside that must end with 0"),
    _HOOK: _k(_M, "commands that run inside the workload"),
    f"{_HOOK}.after_start": _k(_L, "after each start"),
    f"{_HOOK}.before_stop": _k(_L, "before each stop"),
    f"{_HOOK}.after_resume": _k(_L, "not used: core has no such hook", unused=True),
    f"{_HOOK}.before_suspend": _k(_L, "not used: core has no such hook", unused=True),
    f"{_HOOK}.force": _k(_B, "a failed hook fails the operation"),
    "volumes": _k(_L, "src:dst[:flags[:size[:riops:wiops:rbps:wbps]]]; src AUTO lets core choose"),
    "volumes_request": _k(_L, "what is kept of each volume; as volumes if left out"),
    "labels": _k(_P, "labels of the workloads"),
    "dns": _k(_L, "name servers"),
    "extra_hosts": _k(_L, "name:address lines for /etc/hosts"),
    "stages": _k(_L, "for image build: the builds in their order"),
    "builds": _k(_M, "for image build: the stages by name"),
    f"{_BUILD}.base": _k(_T, "image the stage begins with"),
    f"{_BUILD}.repo": _k(_T, "repository that is fetched"),
    f"{_BUILD}.version": _k(_T, "its branch, tag or commit"),
    f"{_BUILD}.dir": _k(_T, "where in the image it goes"),
    f"{_BUILD}.submodule": _k(_B, "fetch its submodules too"),
    f"{_BUILD}.commands": _k(_L, "what is run, line by line"),
    f"{_BUILD}.envs": _k(_P, "environment of the image"),
    f"{_BUILD}.args": _k(_P, "build arguments"),
    f"{_BUILD}.labels": _k(_P, "labels of the image"),
    f"{_BUILD}.artifacts": _k(_P, "files to fetch: address -> place in the image"),
    f"{_BUILD}.cache": _k(_P, "files kept for the next stage: from -> to"),
    f"{_BUILD}.stop_signal": _k(_T, "signal that stops it"),
    f"{_BUILD}.stopsignal": _k(_T, "the same, as it was spelled before", unused=True),
    f"{_BUILD}.security": _k(_B, "leave the source out of the image"),
}
NAMED = ("entrypoints", "builds")  # below these stand names, not keys


def below(path: str) -> tuple[str, ...]:
    """The keys directly below a path of the table; "" is the top."""
    start = f"{path}." if path else ""
    rest = [name.removeprefix(start) for name in KEYS if name.startswith(start)]
    return tuple(dict.fromkeys(name for name in rest if "." not in name))


def generic(path: str) -> str:
    """`entrypoints.web.cmd` as the table has it."""
    parts = path.split(".")
    if parts[0] in NAMED and len(parts) > 1:
        parts[1] = ANY
    return ".".join(parts)
