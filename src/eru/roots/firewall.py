"""What a stopped dockerd leaves in the kernel: its bridge, its chains and the rules that jump to them."""

from __future__ import annotations

import re
import subprocess

BRIDGE = "docker0"
_OURS = re.compile(r"DOCKER|docker0|(-s|-d) 172\.1[7-9]\.")


def forget_docker() -> None:
    """Remove it all. Only for a dockerd that has ended; another one makes them anew when it starts."""
    for table in ("nat", "filter"):
        rules = _run("iptables", "-t", table, "-S").splitlines()
        for rule in rules:
            if rule.startswith("-A ") and _OURS.search(rule):
                _run("iptables", "-t", table, "-D", *rule.split()[1:])
        for rule in rules:
            if rule.startswith("-N DOCKER"):
                _run("iptables", "-t", table, "-F", rule.split()[1])
        for rule in rules:
            if rule.startswith("-N DOCKER"):
                _run("iptables", "-t", table, "-X", rule.split()[1])
    _run("ip", "link", "delete", BRIDGE)


def _run(*command: str) -> str:
    """Its output; what is not there any more, or not installed, needs no removing."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout
    except OSError:
        return ""
