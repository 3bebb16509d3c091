"""The JSON Schema of specs, for editors and other programs, made from the table of keys.

    python -m eru.cli.spec.schema docs/spec.schema.json

writes it; a test compares.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from eru.cli.spec.keys import ANY, KEYS, NAMED, NOTE, Kind, below

_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_SHAPES: dict[Kind, dict[str, Any]] = {
    Kind.TEXT: _SCALAR,
    Kind.COMMAND: _SCALAR,
    Kind.TEXTS: {"type": ["array", "null"], "items": _SCALAR},
    Kind.PAIRS: {"type": ["object", "null"], "additionalProperties": _SCALAR},
    Kind.TRUTH: {
        "anyOf": [
            {"type": ["boolean", "null"]},
            {"enum": ["", "yes", "no", "on", "off", "y", "n", "true", "false"]},
            _VARIABLE,
        ]
    },
    Kind.NUMBER: {"anyOf": [{"type": ["integer", "null"]}, {"type": "string", "pattern": r"^(-?\d+)?$"}, _VARIABLE]},
    Kind.DURATION: {
        "anyOf": [
            {"type": ["number", "null"], "minimum": 0},
            {"type": "string", "pattern": r"^(\d+(\.\d+)?|(\d+(\.\d+)?(ms|s|m|h))+)?$"},
            _VARIABLE,
        ]
    },
    Kind.THRESHOLD: {
        "anyOf": [
            {"type": ["integer", "null"], "minimum": 1, "maximum": 9999},
            {"type": "string", "pattern": r"^([1-9]\d{0,3})?$"},
            _VARIABLE,
        ]
    },
}


def schema() -> dict[str, Any]:
    """The whole schema."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "App spec of Eru",
        "description": "One app, its entrypoints, and what they need; `eru explain` says the same in a terminal.",
        **_mapping(""),
        "required": ["appname", "entrypoints"],
    }


def _mapping(path: str) -> dict[str, Any]:
    keys = {name: f"{path}.{name}" if path else name for name in below(path)}
    return {
        "type": "object" if not path else ["object", "null"],
        "properties": {name: _key(whole) for name, whole in keys.items() if not KEYS[whole].unused},
        "patternProperties": {f"^{NOTE}": {}},
        "additionalProperties": False,
    }


def _key(path: str) -> dict[str, Any]:
    key = KEYS[path]
    if path in NAMED:
        shape = {"type": "object", "additionalProperties": _mapping(f"{path}.{ANY}"), "minProperties": 1}
        if path == "entrypoints":
            shape["propertyNames"] = {"pattern": r"^[A-Za-z0-9][A-Za-z0-9.\-]*$", "maxLength": 128}
    elif key.kind is Kind.MAPPING:
        shape = _mapping(path)
    else:
        shape = dict(_SHAPES[key.kind])
    return {"description": key.meaning, **shape}


def text() -> str:
    """The schema as the file has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text())
