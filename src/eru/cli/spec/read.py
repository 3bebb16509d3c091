"""App specs: YAML in, what a deploy needs out.

Wrong types and unknown keys are errors with a line number (for the published
program unknown keys are told and do no harm).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from eru.cli.exits import Problem, not_found, usage
from eru.cli.spec import check, values
from eru.cli.spec.expand import expand
from eru.cli.spec.view import View, child, root_of
from eru.cli.suggest import did_you_mean

if TYPE_CHECKING:
    from eru.cli.settings import Settings
    from eru.wire import core_pb2 as pb

FETCH_TIMEOUT_S = 15.0
SPEC_BYTES_MAX = 4 * 1024 * 1024
# Keys that travel as labels: only agents that know these labels look at them.
HEALTH_LABELS = {
    "interval": "eru.health.interval",
    "timeout": "eru.health.timeout",
    "healthy_threshold": "eru.health.healthy_after",
    "unhealthy_threshold": "eru.health.unhealthy_after",
    "exec": "eru.health.exec",
}


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


def parse(
    text: str, entry: str, source: str, *, strict: bool = True, variables: Mapping[str, str] | None = None
) -> Spec:
    """The spec for one entrypoint. Raises Problem naming the line.

    `strict`: a key that nobody knows is an error, not a warning. `variables`
    replace `${NAME}`; None leaves such text as it is.
    """
    root = root_of(text, source)
    if variables is not None and root.node is not None:
        expand(root.node, source, variables)
    found = [each for each in check.findings(root) if strict or each.about(entry)]
    if strict:
        found += values.findings(root)
    check.refuse([each for each in found if strict or not each.unknown], source)
    warnings = [each.told for each in found if each.ignored]
    if not strict:
        unknown = [each for each in found if each.unknown]
        warnings += [f"{each.what} and is ignored{'; ' + each.hint if each.hint else ''}" for each in unknown]
    top = root.mapping()
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
    options = _entrypoint(entry, entries[entry].mapping())
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


def _entrypoint(name: str, keys: dict[str, View]) -> pb.EntrypointOptions:
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
        parts = log.mapping()
        options.log.CopyFrom(pb.LogOptions(type=child(parts, "type").text(), config=child(parts, "config").pairs()))
    health = child(keys, "healthcheck")
    if not health.absent:
        parts = health.mapping()
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
        options.hook.CopyFrom(_hook(hook.mapping()))
    return options


def _health_labels(parts: dict[str, View]) -> dict[str, str]:
    """The health keys that are no part of the message."""
    return {label: text for name, label in HEALTH_LABELS.items() if (text := child(parts, name).text())}


def _hook(parts: dict[str, View]) -> pb.HookOptions:
    from eru.wire import core_pb2 as pb

    return pb.HookOptions(
        after_start=child(parts, "after_start").texts(),
        before_stop=child(parts, "before_stop").texts(),
        force=child(parts, "force").truth(),
    )


# -- where specs come from


async def load(place: str, entry: str, settings: Settings | None = None) -> Spec:
    """The spec at a path, an http(s) address, or `-` for standard input.

    For the published program unknown keys are only told, and `${NAME}` is text, as ever.
    """
    import os

    strict = settings is None or not settings.published
    text = await read(place)
    return parse(text, entry, called(place), strict=strict, variables=os.environ if strict else None)


def called(place: str) -> str:
    """What messages call it."""
    return place if place != "-" else "standard input"


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
    if (scheme := re.match(r"([a-z][a-z0-9+]*)://", place)) is not None:
        raise usage(f"spec {place}: {scheme[1]} is not understood", hint="give a file, an http(s) address, or -")
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
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno or 0
        reason = os.strerror(number) if number > 0 else error.os_error.strerror or "unknown"
        raise Problem(f"spec {place}: its server cannot be reached: {reason.lower()}") from None
    except aiohttp.ClientResponseError:  # its text has pages of bytes
        raise Problem(f"spec {place}: what listens there does not speak HTTP as it should") from None
    except aiohttp.ClientError as error:
        raise Problem(f"spec {place}: {error}") from None
