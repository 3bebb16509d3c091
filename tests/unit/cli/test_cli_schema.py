"""The published schema says of a spec what the checker says."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from eru.cli.spec import check
from eru.cli.spec.schema import schema
from eru.cli.spec.verbs import FOLDER, examples
from eru.cli.spec.view import root_of

SCHEMA = schema()
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def valid(value: Any, rule: dict[str, Any]) -> bool:
    """The part of JSON Schema that ours uses; a word it does not know fails the test."""
    return all(_holds(word, rule, value) for word in rule if word not in ("$schema", "title", "description"))


def _holds(word: str, rule: dict[str, Any], value: Any) -> bool:
    wanted = rule[word]
    if word == "type":
        names = wanted if isinstance(wanted, list) else [wanted]
        right = any(isinstance(value, _TYPES[name]) for name in names)
        return right and not (isinstance(value, bool) and "boolean" not in names)
    if word == "anyOf":
        return any(valid(value, each) for each in wanted)
    if word == "enum":
        return value in wanted
    if word == "items":
        return not isinstance(value, list) or all(valid(item, wanted) for item in value)
    if word in ("pattern", "maxLength"):
        right = (lambda: re.search(wanted, value) is not None) if word == "pattern" else (lambda: len(value) <= wanted)
        return not isinstance(value, str) or bool(right())
    if word in ("minimum", "maximum"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return not number or (value >= wanted if word == "minimum" else value <= wanted)
    if not isinstance(value, dict):
        assert word in ("properties", "patternProperties", "additionalProperties", "propertyNames", "required") or (
            word == "minProperties"
        ), f"the schema says {word!r}, which is not checked here"
        return True
    return _of_object(word, rule, value)


def _of_object(word: str, rule: dict[str, Any], value: dict[str, Any]) -> bool:
    wanted = rule[word]
    known = rule.get("properties", {})
    if word == "properties":
        return all(valid(value[name], wanted[name]) for name in value if name in wanted)
    if word == "required":
        return all(name in value for name in wanted)
    if word == "minProperties":
        return len(value) >= wanted
    if word == "propertyNames":
        return all(valid(name, wanted) for name in value)
    rest = [name for name in value if name not in known]
    rest = [name for name in rest if not any(re.search(each, name) for each in rule.get("patternProperties", {}))]
    if word == "patternProperties":
        return True  # ours allow anything
    return not rest if wanted is False else all(valid(value[name], wanted) for name in rest)


def right(spec: Any) -> bool:
    """What the checker says."""
    found = check.findings(root_of(yaml.safe_dump(spec, sort_keys=False), "s"))
    return not [each for each in found if not each.ignored]


def example(name: str) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(FOLDER.joinpath(f"{name}.yaml").read_text())
    return made


@pytest.mark.parametrize("name", examples())
def test_examples_are_valid(name: str):
    assert valid(example(name), SCHEMA)
    assert right(example(name))


WRONG: list[tuple[tuple[str, ...], Any]] = [
    (("nonsense",), 1),
    (("entrypoints", "web", "nonsense"), 1),
    (("entrypoints", "w_b"), {}),
    (("entrypoints", "web", "healthcheck", "intervall"), "5s"),
    (("entrypoints", "web", "healthcheck", "interval"), "often"),
    (("entrypoints", "web", "healthcheck", "healthy_threshold"), 0),
    (("entrypoints", "web", "healthcheck", "code"), "ok"),
    (("entrypoints", "web", "privileged"), "perhaps"),
    (("entrypoints", "web", "commands"), "serve"),
    (("entrypoints", "web", "publish"), {"80": "x"}),
    (("entrypoints", "web", "log"), "json-file"),
    (("entrypoints", "web", "hook", "force"), ["x"]),
    (("labels",), ["a=b"]),
    (("volumes",), "/a:/b"),
    (("appname",), ["a"]),
]
FINE: list[tuple[tuple[str, ...], Any]] = [
    (("x-notes",), {"anything": [1]}),
    (("entrypoints", "web", "x-mine"), 1),
    (("entrypoints", "web", "privileged"), "yes"),
    (("entrypoints", "web", "healthcheck", "interval"), 5),
    (("entrypoints", "web", "healthcheck", "code"), "204"),
    (("entrypoints", "web", "publish"), [80, "8080/http"]),
    (("entrypoints", "web", "dir"), 7),
    (("volumes",), None),
    (("labels",), {"on": True, "none": None}),
]


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(example("web"))
    at = spec
    for name in path[:-1]:
        at = at.setdefault(name, {})
    at[path[-1]] = value
    return spec


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_both_refuse(path: tuple[str, ...], value: Any):
    spec = changed(path, value)
    assert (valid(spec, SCHEMA), right(spec)) == (False, False)


@pytest.mark.parametrize(("path", "value"), FINE)
def test_both_accept(path: tuple[str, ...], value: Any):
    spec = changed(path, value)
    assert (valid(spec, SCHEMA), right(spec)) == (True, True)


VALUE = st.one_of(
    st.sampled_from(["5s", "x", "80", "yes", "on-failure:3", "", "1m30s"]),
    st.integers(0, 10000),
    st.booleans(),
    st.none(),
    st.lists(st.sampled_from(["a", "80"]), max_size=2),
    st.dictionaries(st.sampled_from(["a", "type", "config", "code"]), st.sampled_from(["a", "1"]), max_size=2),
)
PATHS = [tuple(key.replace("NAME", "web").split(".")) for key in check.KEYS if key not in check.NAMED]


@settings(max_examples=200, deadline=None)
@given(path=st.sampled_from(PATHS), value=VALUE)
def test_they_agree_about_any_value_of_any_key(path: tuple[str, ...], value: Any):
    spec = changed(path, value)
    if path[0] == "builds" or path[-1] in ("exec", "appname", "after_resume", "before_suspend"):
        return  # what a command or a name is, and what is only tolerated, a schema does not tell
    assert valid(spec, SCHEMA) == right(spec), (path, value)
