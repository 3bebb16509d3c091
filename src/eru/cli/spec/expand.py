"""`${VAR}`, `${VAR:-default}` and `$$` in the values of a spec.

Values are replaced after the YAML has been read, so nothing a variable holds
can become a key or a list. A single `$` means nothing: shell lines keep
theirs. Keys are not touched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from eru.cli.exits import usage

_MARK = re.compile(r"\$\$|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?)?([^}]*)(\}?)")


def expand(node: yaml.Node, source: str, variables: Mapping[str, str]) -> None:
    """Replace in place, below `node`. Raises Problem naming line and key."""
    seen: set[int] = set()

    def walk(each: yaml.Node, path: str) -> None:
        if id(each) in seen:  # an anchor that is used twice
            return
        seen.add(id(each))
        if isinstance(each, yaml.ScalarNode):
            if "$" in each.value:
                where = f"{source}:{each.start_mark.line + 1}: {path}"
                each.value = expanded(each.value, where, variables)
        elif isinstance(each, yaml.SequenceNode):
            for index, item in enumerate(each.value):
                walk(item, f"{path}[{index}]")
        elif isinstance(each, yaml.MappingNode):
            for key, value in each.value:
                walk(value, f"{path}.{getattr(key, 'value', '')}".lstrip("."))

    walk(node, "")


def expanded(text: str, where: str, variables: Mapping[str, str]) -> str:
    """One value; `where` begins the message of a Problem."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, defaulted, default, rest, end = match.groups()
        if not name or rest or not end:
            forms = "the forms are ${NAME} and ${NAME:-default}; $${ is the text ${"
            raise usage(f"{where}: {match[0][:40]!r} names no variable", hint=forms)
        if defaulted and not variables.get(name):
            return str(default)
        if name not in variables:
            hint = f"export {name}=..., or write ${{{name}:-default}}; $${{{name}}} is left to the workload"
            raise usage(f"{where}: the variable {name} is not set", hint=hint)
        return variables[name]

    return _MARK.sub(value, text)
