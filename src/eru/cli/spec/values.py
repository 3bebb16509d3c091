"""Values that have the right type and yet cannot work: ports, restarts, volumes, addresses.

Core or the engine would refuse them, or nobody would read them, when the app
is deployed already. Specs for the published program are not looked at this way.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from eru.cli.exits import Problem
from eru.cli.spec.check import Finding
from eru.cli.spec.keys import NOTE
from eru.cli.spec.view import View, child
from eru.cli.suggest import did_you_mean

PORT_MAX = 65535
VOLUME_PARTS_MAX = 8  # src:dst:flags:size:riops:wiops:rbps:wbps
STATUS_MIN, STATUS_MAX = 100, 599
_PORT = re.compile(r"(\d{1,5})(/[a-z][a-z0-9]*)?")
_RESTARTS = ("no", "always", "unless-stopped", "on-failure")
_RESTART = re.compile(r"no|always|unless-stopped|on-failure(:\d+)?")
_FLAGS = re.compile(r"[A-Za-z,]*")
_SIZE = re.compile(r"\d+(\.\d+)?([kmgtp](i?b)?|b)?", re.IGNORECASE)
_VOLUME = "src:dst[:flags[:size[:riops:wiops:rbps:wbps]]], for example /data:/data:rw:10G"


def findings(root: View) -> list[Finding]:
    """In the order of the text. What has a wrong type is left to `check`."""
    try:
        return list(_top(root.mapping()))
    except Problem:
        return []


def _top(keys: dict[str, View]) -> Iterator[Finding]:
    for name in ("volumes", "volumes_request"):
        for item in _items(keys, name):
            if wrong := _volume(item.text()):
                yield _wrong(item, f"is not a volume: {wrong}", _VOLUME)
    for item in _items(keys, "dns"):
        if not _is_address(item.text()):
            yield _wrong(item, "is not an IP address", "name servers are given as addresses, for example 10.0.0.53")
    for item in _items(keys, "extra_hosts"):
        name, _, address = item.text().partition(":")
        if not name or not (_is_address(address) or address == "host-gateway"):
            yield _wrong(item, "is not of the form name:address", "for example db:10.0.0.9")
    for name, entry in _children(keys, "entrypoints").items():
        if not name.startswith(NOTE):
            yield from _entry(entry)


def _entry(entry: View) -> Iterator[Finding]:
    try:
        keys = entry.mapping()
    except Problem:
        return
    for item in _items(keys, "publish"):
        yield from _port(item)
    restart = _word(keys, "restart")
    if restart and not _RESTART.fullmatch(restart):
        policy = restart.partition(":")[0]
        hint = "for example on-failure:3" if policy == "on-failure" else did_you_mean(policy, _RESTARTS)
        yield _wrong(keys["restart"], "is no way to restart", hint or f"one of {', '.join(_RESTARTS)}[:times]")
    line = _word(keys, "cmd")
    if not _items(keys, "commands") and any(mark in line for mark in "\"'"):
        yield _idle(keys["cmd"], "is split at spaces, quotes or not", 'write commands: [sh, -c, "..."]')
    yield from _health(_children(keys, "healthcheck"))


def _health(keys: dict[str, View]) -> Iterator[Finding]:
    for item in _items(keys, "tcp_ports"):
        yield from _port(item)
    port, code = _word(keys, "http_port"), _word(keys, "code")
    if port:
        yield from _port(keys["http_port"])
    if code.isdigit() and int(code) and not STATUS_MIN <= int(code) <= STATUS_MAX:
        yield _wrong(keys["code"], "is no HTTP status", "0 takes anything from 200 to 499")
    for name in ("url", "code"):
        if not port and _word(keys, name) not in ("", "0"):
            yield _idle(keys[name], "is not used without http_port")


def _port(item: View) -> Iterator[Finding]:
    found = _PORT.fullmatch(item.text())
    if found and 1 <= int(found[1]) <= PORT_MAX:
        return
    numbers = re.findall(r"\d+", item.text())
    hint = f"a number from 1 to {PORT_MAX}, also with a protocol: 53/udp"
    if ":" in item.text() and numbers:
        hint = f"ports are not mapped, write the one inside: {numbers[-1]}"
    yield _wrong(item, "is not a port", hint)


def _volume(text: str) -> str:
    """What is wrong with a volume, or ""."""
    parts = [part.strip() for part in text.split(":")]
    if not 2 <= len(parts) <= VOLUME_PARTS_MAX:
        return "it has no target" if len(parts) < 2 else f"it has {len(parts)} parts"
    if not parts[1].startswith("/"):
        return f"the target {parts[1]!r} is not an absolute path"
    if len(parts) > 2 and not _FLAGS.fullmatch(parts[2]):
        return f"the flags {parts[2]!r} are not letters such as rw or ro"
    for part in parts[3:]:
        if part and not _SIZE.fullmatch(part):
            return f"{part!r} is not a size such as 10G"
    return ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _items(keys: dict[str, View], name: str) -> list[View]:
    """The items of a list that are text."""
    try:
        return [item for item in child(keys, name).items() if _is_text(item)]
    except Problem:
        return []


def _is_text(item: View) -> bool:
    try:
        return bool(item.text())
    except Problem:
        return False


def _word(keys: dict[str, View], name: str) -> str:
    try:
        return child(keys, name).text()
    except Problem:
        return ""


def _children(keys: dict[str, View], name: str) -> dict[str, View]:
    try:
        return child(keys, name).mapping()
    except Problem:
        return {}


def _wrong(view: View, what: str, hint: str) -> Finding:
    return Finding(f"{view.where}: {view.path} {view.text()!r} {what}", hint, view.path)


def _idle(view: View, what: str, hint: str = "") -> Finding:
    return Finding(f"{view.where}: {view.path} {what}", hint, view.path, ignored=True)
