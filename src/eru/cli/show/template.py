"""`-o template=TEXT`: one line per item, with `{{.field}}` filled in.

What the best known command lines offer scripts that have no jq: paths through
messages, labels and the JSON inside strings, nothing to compute.
"""

from __future__ import annotations

import json
import re
from typing import Any

from eru.cli.exits import usage
from eru.cli.show.document import expanded

_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"\s*(json\s+)?\.([\w./-]*)\s*")
_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}


def lines(data: Any, template: str) -> str:
    """The template once per item of a list, or once. Raises Problem for what is no path."""
    text = re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], template)
    for found in _PLACE.finditer(text):
        if not _PATH.fullmatch(found[1]):
            raise usage(
                f"--output template: {found[0]} is not a path",
                hint="for example -o 'template={{.name}} {{.labels.tier}}'; --json ? lists the fields",
            )
    items = data if isinstance(data, list) else [] if data is None else [data]
    return "".join(f"{_filled(expanded(item), text)}\n" for item in items)


def _filled(item: Any, text: str) -> str:
    def fill(found: re.Match[str]) -> str:
        path = _PATH.fullmatch(found[1])
        return _text(_at(item, path[2]), quoted=bool(path[1])) if path else ""

    return _PLACE.sub(fill, text)


def _at(value: Any, path: str) -> Any:
    """What a path leads to, None where there is nothing. Keys may have dots: the longest that fits counts."""
    if not path:
        return value
    if isinstance(value, list):
        head, _, rest = path.partition(".")
        return _at(value[int(head)], rest) if head.isdigit() and int(head) < len(value) else None
    if not isinstance(value, dict):
        return None
    words = path.split(".")
    for count in range(len(words), 0, -1):
        key = ".".join(words[:count])
        if key in value:
            return _at(value[key], ".".join(words[count:]))
    return None


def _text(value: Any, *, quoted: bool) -> str:
    if quoted or isinstance(value, (dict, list, bool)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "" if value is None else str(value)
