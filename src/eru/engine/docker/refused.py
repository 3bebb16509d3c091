"""Docker's refusals in words that say what to change."""

from __future__ import annotations

import re
from collections.abc import Callable

_Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

# rlimit numbers of Linux, as runc names them in its errors.
_RLIMITS = {"6": "nproc", "7": "nofile", "8": "memlock", "9": "as", "4": "core", "3": "stack"}


ULIMIT_REFUSED = re.compile(r"docker refused ulimit (\w+):")


def explain(message: str) -> str:
    """Docker's message, put into one sentence with the next step where it is a known one."""
    text = " ".join(message.split())
    for pattern, say in _RULES:
        match = pattern.search(text)
        if match is not None:
            return say(match)
    return text


def _rlimit(match: re.Match[str]) -> str:
    name = _RLIMITS.get(match[1], f"number {match[1]}")
    return (
        f"docker refused ulimit {name}: this host allows less than was asked for; set docker.{name} in core.yaml, or "
        f'ulimits in raw_args (for example {{"ulimits":[{{"Name":"{name}","Soft":20000,"Hard":20000}}]}})'
    )


_RULES: list[_Rule] = [
    (re.compile(r"setting rlimit type (\d+)"), _rlimit),
    (
        re.compile(r"Minimum memory (limit|reservation) allowed is (\w+)"),
        lambda m: f"docker refused the memory {m[1]}: at least {m[2]} must be asked for",
    ),
    (
        re.compile(r"Bind for (\S+) failed: port is already allocated"),
        lambda m: (
            f"docker refused to publish {m[1]}: the port is already in use on this node; publish another one, "
            "or reach instances at their own addresses"
        ),
    ),
    (
        re.compile(r"address already in use"),
        lambda m: f"docker refused a port or address that is already in use on this node: {m.string}",
    ),
    (
        re.compile(r"Range of CPUs is from ([\d.]+) to ([\d.]+)"),
        lambda m: f"docker refused the CPU limit: this machine has {m[2]} cores; correct the node's capacity",
    ),
    (
        re.compile(r"Requested CPUs are not available - requested ([\d,-]+), available: ([\d,-]+)"),
        lambda m: f"docker refused CPU cores {m[1]}: this machine has {m[2]}; correct the node's capacity",
    ),
    (
        re.compile(r"storage-opt is supported only for|--storage-opt is not supported|overlay over xfs"),
        lambda m: (
            "docker refused the storage limit: its storage driver enforces none here (overlay2 needs xfs with "
            f"pquota); ask for no storage, or change the driver ({m.string})"
        ),
    ),
    (
        re.compile(r"unknown or invalid runtime name: (\S+)|Unknown runtime specified (\S+)"),
        lambda m: f"docker knows no runtime {m[1] or m[2]}: install it in the daemon, or change runtime in raw_args",
    ),
    (
        re.compile(r'exec: "([^"]*)": (executable file not found in \$PATH|stat .*?no such file or directory)'),
        lambda m: f"the image has no program {m[1]!r}: correct the command, or the image",
    ),
    (
        re.compile(r"failed to initialize logging driver: (.*)"),
        lambda m: (
            f"docker's log driver does not work here ({m[1]}): set another one in the entrypoint's log or docker.log"
        ),
    ),
    (
        re.compile(r"configured logging driver does not support reading"),
        lambda _: "docker cannot read this workload's output back: its log driver sends it elsewhere and keeps none",
    ),
    (
        re.compile(r"device or resource busy.*memory|memory.*device or resource busy"),
        lambda _: "docker refused the lower memory limit: the workload uses more than that now",
    ),
]
