"""Which context is in effect, and what it gives.

An option beats a variable, a variable beats the context, the context beats
the default. A context stands for one cluster: who names another address gets
none of it, lest its password go to a stranger.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from eru.cli.context import file
from eru.cli.context.place import place
from eru.cli.settings import FLAG, Settings

_PLAIN = ("username", "tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "output")


def chosen(asked: Settings) -> tuple[str, str]:
    """(name, who chose it) of the context in effect; ("", why not) for none."""
    given = asked.sources
    if given.get("context") == FLAG:
        return asked.context, "--context"
    if "eru" in given:
        return "", "--eru" if given["eru"] == FLAG else "ERU"
    if asked.context:
        return asked.context, "ERU_CONTEXT"
    if asked.published:
        return "", "eru-cli takes none unasked"
    if not os.path.exists(place()):  # or not ours to look at
        return "", "no file"
    current = file.read().current
    return current, "current" if current else "none is current"


def effective(asked: Settings) -> Settings:
    """The settings with what the context gives. Raises Problem for a context that is not there."""
    name, by = chosen(asked)
    if not name:
        return replace(asked, context="")
    return applied(asked, name, file.read().get(name, by))


def applied(asked: Settings, name: str, values: dict[str, Any]) -> Settings:
    """`asked`, filled up from the keys of one context."""
    given = asked.sources
    filled: dict[str, Any] = {key: values[key] for key in _PLAIN if key in values and key not in given}
    if "eru" not in given and "address" in values:
        filled["eru"] = values["address"]
    if not {"username", "password"} & set(given):
        filled["secret"] = file.secret_of(values)
    return replace(asked, context=name, pod=values.get("pod", ""), production=bool(values.get("production")), **filled)
