"""docs/configuration.md: every key, none that does not exist, and the defaults that are in effect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from eru.agent.settings import FLAGS, AgentSettings
from eru.config import _PUBLISHED_NAMES, UNUSED, CoreConfig
from eru.lib.settings import leaves, parse_duration

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `(?P<key>[a-z_.]+)`(?: \*)? \| (?:`(?P<default>[^`]*)` )?\| (?P<unit>[^|]*)\| ", re.MULTILINE)


def part(title: str) -> str:
    """What stands under a heading of the second level."""
    return PAGE.read_text().split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(title: str) -> dict[str, tuple[str, str]]:
    """Key -> (default, unit) of the tables of keys there."""
    found = list(ROW.finditer(part(title)))
    keys = [row["key"] for row in found]
    assert len(keys) == len(set(keys)), "a key has two rows"
    return {row["key"]: (row["default"] or "", row["unit"].strip()) for row in found}


def fields(type_: type[msgspec.Struct], above: str = "") -> Iterator[str]:
    """Paths of all fields that are no sections."""
    for field in msgspec.structs.fields(type_):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from fields(field.type, f"{above}{field.name}.")
        else:
            yield above + field.name


def value_at(settings: msgspec.Struct, path: str) -> Any:
    found: Any = settings
    for name in path.split("."):
        found = getattr(found, name)
    return found


KEYS = {
    "core.yaml": (CoreConfig(), {".".join(path) for path, _ in leaves(CoreConfig)}),
    "agent.yaml": (AgentSettings(), set(fields(AgentSettings))),
}


@pytest.mark.parametrize("title", KEYS)
def test_every_key_has_a_row_and_every_row_a_key(title: str) -> None:
    assert set(rows(title)) == KEYS[title][1]


@pytest.mark.parametrize("title", KEYS)
def test_defaults_are_those_in_effect(title: str) -> None:
    defaults = KEYS[title][0]
    wrong = {}
    for key, (told, unit) in rows(title).items():
        actual = value_at(defaults, key)
        expected: Any = told
        if not told:
            actual = actual or ""
        elif unit == "duration":
            actual, expected = parse_duration(actual), parse_duration(told)
        elif not isinstance(actual, str):
            expected = yaml.safe_load(told)
        if expected != actual:
            wrong[key] = (told, actual)
    assert wrong == {}


def test_keys_without_use_are_said_to_be_so() -> None:
    told = set(re.findall(r"^\| `([a-z_.]+)` \|.*\*no use\*", part("core.yaml"), re.MULTILINE))
    assert told == set(UNUSED)


def test_flags_of_the_agent_are_all_there() -> None:
    told = set(re.findall(r"^\| `--([a-z-]+)` \|", part("agent.yaml"), re.MULTILINE))
    assert told == set(FLAGS)


def test_published_spellings_of_the_environment_are_all_there() -> None:
    told = dict(re.findall(r"^\| ([a-z_.]+) \| `CONFIGOR_([A-Z_]+)` \|$", part("core.yaml"), re.MULTILINE))
    assert told == _PUBLISHED_NAMES
