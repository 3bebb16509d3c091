"""Names become parts of keys and container names, so they are checked before use."""

from __future__ import annotations

import re

from eru.model.errors import InvalidInput

NAME_LENGTH_MAX = 128
_GOOD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
IDENT_LENGTH = 6


def check_name(kind: str, name: str) -> str:
    """The name itself if it is fit for a key; `kind` is used in the message (`pod name`).

    Raises InvalidInput: empty, too long, or with a character that does not belong.
    """
    if not name:
        raise InvalidInput(f"{kind} is empty")
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidInput(f"{kind} {name[:32]!r}... has {len(name)} characters, at most {NAME_LENGTH_MAX} are allowed")
    if not _GOOD.fullmatch(name):
        raise InvalidInput(
            f"{kind} {name!r} is not allowed: use letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    return name


def check_entrypoint(name: str) -> str:
    """As `check_name`, and without `_`, which separates the parts of a workload name."""
    if not name:
        raise InvalidInput("entrypoint name is empty")
    if "_" in name:
        raise InvalidInput(f"entrypoint name {name[:64]!r}: entrypoint name has '_' character")
    return check_name("entrypoint name", name)


def workload_name(app: str, entrypoint: str, ident: str) -> str:
    """`<app>_<entrypoint>_<ident>`."""
    return f"{app}_{entrypoint}_{ident}"


def parse_workload_name(name: str) -> tuple[str, str, str]:
    """(app, entrypoint, ident) of a workload's name; the app may contain `_`.

    Raises InvalidInput if there are fewer than three parts.
    """
    parts = name.lstrip("/").rsplit("_", 2)
    if len(parts) != 3 or not all(parts):
        raise InvalidInput(f"workload name {name!r} is not of the form <app>_<entrypoint>_<ident>")
    return parts[0], parts[1], parts[2]
