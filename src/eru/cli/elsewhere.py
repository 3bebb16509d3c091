"""A word that is no command here: the command it stands for, in another group or in other programs."""

from __future__ import annotations

import click

from eru.cli import plugins
from eru.cli.suggest import SHOWN_MAX, nearest

_ALIKE = 0.75  # from 0 to 1; a verb of another group is only named if it is nearly the same word
# what the same is called by docker, kubectl, nomad and their like -> what to type here
_FOREIGN = {
    **dict.fromkeys(("ps", "instances", "jobs"), ("status", "workload list")),
    **dict.fromkeys(("rm", "delete", "del", "kill", "destroy"), ("workload remove",)),
    **dict.fromkeys(("ls", "get"), ("workload list", "node list", "pod list")),
    **dict.fromkeys(("describe", "inspect", "show"), ("why", "workload get")),
    **dict.fromkeys(("apply", "create", "launch", "job", "service", "stack"), ("workload deploy",)),
    **dict.fromkeys(("plan", "diff"), ("workload deploy --dry-run",)),
    **dict.fromkeys(("rollout", "update", "upgrade"), ("workload replace",)),
    **dict.fromkeys(("cp",), ("workload copy", "workload send")),
    **dict.fromkeys(("sh", "ssh", "shell", "console", "bash"), ("exec -i WORKLOAD sh",)),
    **dict.fromkeys(("containers", "workloads", "apps", "deployments", "alloc"), ("workload list",)),
    **dict.fromkeys(("nodes", "hosts", "machines", "machine"), ("node list",)),
    **dict.fromkeys(("network list", "network ls"), ("pod networks",)),
    "pods": ("pod list",),
    "images": ("image list",),
    "networks": ("pod networks", "network connect"),
    "log": ("logs",),
    "contexts": ("context list",),
    "pull": ("image cache",),
    **dict.fromkeys(("stats", "usage"), ("top",)),
    **dict.fromkeys(("config", "login", "use", "cluster"), ("context",)),
    **dict.fromkeys(("ping", "health", "check"), ("doctor",)),
    **dict.fromkeys(("compose", "convert"), ("import",)),
    **dict.fromkeys(("validate", "lint"), ("spec check",)),
    **dict.fromkeys(("journal", "history", "audit"), ("events",)),
    **dict.fromkeys(("server", "daemon", "serve"), ("up", "core")),
    **dict.fromkeys(("resize",), ("workload realloc", "workload scale")),
}


def meant(ctx: click.Context, group: click.Group, word: str) -> str:
    """A hint for a word that `group` does not know, or ""."""
    root = ctx.find_root()
    if not isinstance(root.command, click.Group):
        return ""
    program = root.info_name or "eru"
    here = nearest(word, [*group.list_commands(ctx), *(plugins.names() if getattr(group, "plugins", False) else ())])
    if here and group is not root.command:  # a slip of the finger in a group stays in the group
        return _told(here)
    foreign = _FOREIGN.get(f"{ctx.info_name} {word}", _FOREIGN.get(word, ()))
    own = [place.split()[1] for place in foreign if place.count(" ") and place.split()[1] in group.list_commands(ctx)]
    if own and group is not root.command:  # `context delete`
        return _told([f"`{ctx.command_path} {own[0]}`"])
    if foreign:
        return _told([f"`{program} {place}`" for place in foreign if root.command.get_command(ctx, place.split()[0])])
    verbs = _verbs(root, root.command)
    if word in verbs:
        return _told([f"`{program} {place} {word}`".replace("  ", " ") for place in verbs[word]])
    if here:
        return _told(here)
    near = nearest(word, verbs, least=_ALIKE)
    return _told([f"`{program} {verbs[name][0]} {name}`".replace("  ", " ") for name in near])


def _verbs(ctx: click.Context, root: click.Group) -> dict[str, list[str]]:
    """Every verb and the groups that have it, the group of workloads first; "" stands for the top."""
    found: dict[str, list[str]] = {}
    groups = sorted(root.list_commands(ctx), key=lambda name: name != "workload")
    for name in groups:
        command = root.get_command(ctx, name)
        if not isinstance(command, click.Group):
            found.setdefault(name, []).append("")
            continue
        for verb in (*command.list_commands(ctx), *getattr(command, "aliases", ())):
            found.setdefault(verb, []).append(name)
    return found


def _told(found: list[str]) -> str:
    return f"did you mean {' or '.join(found[:SHOWN_MAX])}?" if found else ""
