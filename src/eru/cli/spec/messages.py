"""The messages of the API with what their authors wrote beside them, read from the protocol's own files.

Descriptors at run time have no comments, and loading them costs more than
reading two files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

SOURCES = ("core.proto", "v1.proto")
_BEGIN = re.compile(r"(message|enum)\s+(\w+)\s*\{\s*(\})?")
_FIELD = re.compile(r"(repeated\s+)?(map<\s*\w+\s*,\s*[\w.]+\s*>|[\w.]+)\s+(\w+)\s*=\s*(\d+)\s*;\s*(?://\s*(.*))?")
_VALUE = re.compile(r"(\w+)\s*=\s*(-?\d+)\s*;")


@dataclass
class Field:
    """One field. `type` in words, `message` the name of the message or enum in it, if it is one."""

    name: str
    number: int
    type: str
    message: str = ""
    meaning: str = ""


@dataclass
class Message:
    """One message, or an enum, whose `values` are listed in the types of fields."""

    name: str
    meaning: str = ""
    fields: dict[str, Field] = field(default_factory=dict)
    values: list[str] = field(default_factory=list)


@cache
def messages() -> dict[str, Message]:
    """All messages by name, in the order of the files."""
    found: dict[str, Message] = {}
    for source in SOURCES:
        for each in _read(files("eru.wire").joinpath(source).read_text()):
            found.setdefault(each.name, each)
    for each in found.values():
        for item in each.fields.values():
            inner = found.get(item.message)
            if inner is not None and inner.values:
                item.type = f"{item.type}: {', '.join(inner.values)}"
                item.message = ""
            elif inner is None:
                item.message = ""
    return {name: each for name, each in found.items() if not each.values}


def _read(text: str) -> list[Message]:
    made: list[Message] = []
    open_: list[Message] = []
    said: list[str] = []
    for line in (each.strip() for each in text.splitlines()):
        if line.startswith("//"):
            said.append(line.removeprefix("//").strip())
            continue
        if begin := _BEGIN.match(line):
            made.append(Message(begin[2], " ".join(said)))
            if not begin[3]:
                open_.append(made[-1])
        elif open_ and line.startswith("}"):
            open_.pop()
        elif open_ and (match := _FIELD.match(line)):
            open_[-1].fields[match[3]] = _field(match, " ".join(said))
        elif open_ and (value := _VALUE.match(line)):
            open_[-1].values.append(value[1])
        said = []
    return made


def _field(match: re.Match[str], above: str) -> Field:
    repeated, kind, name, number, beside = match.groups()
    kind = kind.replace("pb.", "")
    inner = kind.removeprefix("map<").removesuffix(">").rpartition(",")[2].strip()
    if kind.startswith("map<"):
        words = f"map of {_words(inner)} by {_words(kind[4:].partition(',')[0].strip())}"
    else:
        words = f"list of {_words(kind)}" if repeated else _words(kind)
    return Field(name, int(number), words, inner, beside or above)


def _words(kind: str) -> str:
    return {"string": "text", "bool": "true or false"}.get(kind, kind)
