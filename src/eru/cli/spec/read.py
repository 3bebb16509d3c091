"""App specs: YAML in, what a deploy needs out.

Every scalar that should be text keeps its literal text (a port stays `6379`,
a time `12:30`), wrong types are errors with a line number, unknown keys are
told but do no harm.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from eru.cli.exits import Problem, not_found, usage
from eru.cli.spec.view import View, child, known_keys, root_of
from eru.cli.suggest import did_you_mean

if TYPE_CHECKING:
    from eru.wire import core_pb2 as pb

FETCH_TIMEOUT_S = 15.0
SPEC_BYTES_MAX = 4 * 1024 * 1024

TOP_KEYS = ("appname", "entrypoints", "volumes", "volumes_request", "labels", "dns", "extra_hosts", "stages", "builds")
ENTRY_KEYS = (*("cmd", "commands", "privileged", "dir", "log", "publish", "healthcheck", "hook", "restart", "sysctls"),)
LOG_KEYS = ("type", "config")
HEALTH_KEYS = (
    *("tcp_ports", "http_port", "url", "code"),
    *("interval", "timeout", "healthy_threshold", "unhealthy_threshold", "exec"),
)
# Keys that travel as labels: only agents that know these labels look at them.
HEALTH_LABELS = {
    "interval": "eru.health.interval",
    "timeout": "eru.health.timeout",
    "healthy_threshold": "eru.health.healthy_after",
    "unhealthy_threshold": "eru.health.unhealthy_after",
    "exec": "eru.health.exec",
}
_DURATION = re.compile(r"\d+(\.\d+)?|(\d+(\.\d+)?(ms|s|m|h))+")
_THRESHOLD = re.compile(r"[1-9]\d{0,3}")
HOOK_KEYS = ("after_start", "before_stop", "after_resume", "before_suspend", "force")


@dataclass
class Spec:
    """The parts of a spec that a deploy uses; `warnings` are for the user."""

    appname: str
    entrypoint: pb.EntrypointOptions
    volumes: list[str] = field(default_factory=list)
    volumes_request: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    dns: list[str] = field(default_factory=list)
    extra_hosts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def parse(text: str, entry: str, source: str) -> Spec:
    """The spec for one entrypoint. Raises Problem naming the line."""
    from eru.wire import core_pb2 as pb

    warnings: list[str] = []
    top = known_keys(root_of(text, source), TOP_KEYS, warnings)
    appname = child(top, "appname").text()
    if not appname:
        raise usage(f"{source}: appname is missing", hint="add a line `appname: NAME`")
    entries = child(top, "entrypoints").mapping()
    if not entries:
        raise usage(f"{source}: it has no entrypoints", hint="add `entrypoints:` with at least one name below")
    if entry not in entries:
        raise not_found(
            f"{source} has no entrypoint {entry!r}",
            why=f"it has {', '.join(sorted(entries))}",
            hint=did_you_mean(entry, entries) or f"--entry {min(entries)}",
        )
    options = _entrypoint(pb, entry, known_keys(entries[entry], ENTRY_KEYS, warnings), warnings)
    return Spec(
        appname=appname,
        entrypoint=options,
        volumes=child(top, "volumes").texts(),
        volumes_request=child(top, "volumes_request").texts(),
        labels=child(top, "labels").pairs() | _health_labels(child(entries[entry].mapping(), "healthcheck").mapping()),
        dns=child(top, "dns").texts(),
        extra_hosts=child(top, "extra_hosts").texts(),
        warnings=warnings,
    )


def _entrypoint(pb_: object, name: str, keys: dict[str, View], warnings: list[str]) -> pb.EntrypointOptions:
    from eru.wire import core_pb2 as pb

    commands = child(keys, "commands").texts()
    if not commands:
        # split as published clients do, on single spaces; but no empty words
        commands = [word for word in child(keys, "cmd").text().split(" ") if word]
    options = pb.EntrypointOptions(
        name=name,
        commands=commands,
        privileged=child(keys, "privileged").truth(),
        dir=child(keys, "dir").text(),
        restart=child(keys, "restart").text(),
        publish=child(keys, "publish").texts(),
        sysctls=child(keys, "sysctls").pairs(),
    )
    log = child(keys, "log")
    if not log.absent:
        parts = known_keys(log, LOG_KEYS, warnings)
        options.log.CopyFrom(pb.LogOptions(type=child(parts, "type").text(), config=child(parts, "config").pairs()))
    health = child(keys, "healthcheck")
    if not health.absent:
        parts = known_keys(health, HEALTH_KEYS, warnings)
        options.healthcheck.CopyFrom(
            pb.HealthCheckOptions(
                tcp_ports=child(parts, "tcp_ports").texts(),
                http_port=child(parts, "http_port").text(),
                url=child(parts, "url").text(),
                code=child(parts, "code").number(),
            )
        )
    hook = child(keys, "hook")
    if not hook.absent:
        options.hook.CopyFrom(_hook(known_keys(hook, HOOK_KEYS, warnings), warnings))
    return options


def _health_labels(parts: dict[str, View]) -> dict[str, str]:
    """The health keys that are no part of the message. Raises Problem."""
    labels = {}
    for name, label in HEALTH_LABELS.items():
        view = child(parts, name)
        if not (text := view.text()):
            continue
        if name in ("interval", "timeout") and not _DURATION.fullmatch(text):
            raise view.wrong("a duration such as 5s or 1m30s")
        if name.endswith("_threshold") and not _THRESHOLD.fullmatch(text):
            raise view.wrong("a whole number from 1 to 9999")
        if name == "exec":
            try:
                shlex.split(text)
            except ValueError as error:
                raise usage(f"{view.where}: {view.path} is no command: {error}") from None
        labels[label] = text
    return labels


def _hook(parts: dict[str, View], warnings: list[str]) -> pb.HookOptions:
    from eru.wire import core_pb2 as pb

    for name in ("after_resume", "before_suspend"):
        if name in parts and parts[name].texts():
            warnings.append(f"{parts[name].where}: {parts[name].path} is not used, core has no such hook")
    return pb.HookOptions(
        after_start=child(parts, "after_start").texts(),
        before_stop=child(parts, "before_stop").texts(),
        force=child(parts, "force").truth(),
    )


# -- where specs come from


async def load(place: str, entry: str) -> Spec:
    """The spec at a path, an http(s) address, or `-` for standard input."""
    return parse(await read(place), entry, place if place != "-" else "standard input")


async def read(place: str) -> str:
    """The text of a spec. Raises Problem."""
    data = await _fetch(place) if place.startswith(("http://", "https://")) else _local(place)
    if len(data) > SPEC_BYTES_MAX:
        raise usage(f"{place} has {len(data)} bytes, a spec may have {SPEC_BYTES_MAX}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise usage(f"{place} is not text: byte {error.start} is not UTF-8") from None


def _local(place: str) -> bytes:
    if place == "-":
        import sys

        return sys.stdin.buffer.read(SPEC_BYTES_MAX + 1)
    try:
        return Path(place).read_bytes()
    except FileNotFoundError:
        folder = Path(place).parent
        there = [each.name for each in folder.glob("*.y*ml")] if folder.is_dir() else []
        hint = did_you_mean(Path(place).name, there)
        raise not_found(f"there is no spec file {place}", hint=hint) from None
    except OSError as error:
        raise usage(f"spec {place}: {error.strerror}") from None


async def _fetch(place: str) -> bytes:
    import aiohttp

    limit = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=limit) as http, http.get(place) as answer:
            if answer.status != 200:
                raise usage(f"spec {place}: the server answered {answer.status} {answer.reason}")
            return await answer.content.read(SPEC_BYTES_MAX + 1)
    except TimeoutError:
        raise Problem(f"spec {place}: no answer within {FETCH_TIMEOUT_S:g} s") from None
    except aiohttp.ClientError as error:
        raise Problem(f"spec {place}: {error}") from None
