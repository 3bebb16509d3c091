"""YAML whose mistakes can be named by line and key.

Every scalar keeps its literal text (a port stays `6379`, a time `12:30`);
what it should be is decided by who reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import yaml

from eru.cli.exits import Problem, usage
from eru.cli.suggest import did_you_mean

_TRUE = ("true", "yes", "on", "y")
_FALSE = ("false", "no", "off", "n")
_NOTHING = ("", "~", "null", "Null", "NULL")


class View:
    """One YAML node with its place, read as what the caller expects.

    The place of a value is where its key stands (`line`, from 0).
    """

    def __init__(self, node: yaml.Node | None, path: str, source: str, line: int | None = None) -> None:
        self.node = node
        self.line = node.start_mark.line if line is None and node is not None else line or 0
        self.path = path
        self.source = source

    @property
    def absent(self) -> bool:
        node = self.node
        return node is None or (isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NOTHING)

    @property
    def has_keys(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def where(self) -> str:
        return f"{self.source}:{self.line + 1}"

    def wrong(self, expected: str, hint: str = "") -> Problem:
        """The error for a value of another type."""
        kinds = {yaml.ScalarNode: "a single value", yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}
        found = kinds.get(type(self.node), "nothing")
        if isinstance(self.node, yaml.ScalarNode):
            found = repr(self.node.value[:40])
        return usage(f"{self.where}: {self.path or 'the spec'} must be {expected}, but is {found}", hint=hint)

    def mapping(self) -> dict[str, View]:
        """Children by key; {} when absent. Merge keys (`<<`) are followed."""
        if self.absent:
            return {}
        if not isinstance(self.node, yaml.MappingNode):
            raise self.wrong("a mapping (key: value)")
        merged: dict[str, View] = {}
        own: dict[str, View] = {}
        for key, value in self.node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise usage(f"{self.source}:{key.start_mark.line + 1}: a key of {self.path} is not plain text")
            if key.value == "<<" and key.style is None:
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for part in parts:
                    for name, view in View(part, self.path, self.source).mapping().items():
                        merged.setdefault(name, view)
                continue
            if key.value in own:
                where = f"{self.source}:{key.start_mark.line + 1}: {self.path or 'the spec'}"
                raise usage(f"{where} has the key {key.value!r} twice")
            own[key.value] = View(value, f"{self.path}.{key.value}".lstrip("."), self.source, key.start_mark.line)
        return {**merged, **own}

    def text(self) -> str:
        if self.absent:
            return ""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.wrong("text")
        return str(self.node.value)

    def items(self) -> list[View]:
        if self.absent:
            return []
        if not isinstance(self.node, yaml.SequenceNode):
            scalar = isinstance(self.node, yaml.ScalarNode)
            raise self.wrong("a list", f"write [{self.text()}]" if scalar and " " not in self.text() else "")
        return [View(item, f"{self.path}[{index}]", self.source) for index, item in enumerate(self.node.value)]

    def texts(self) -> list[str]:
        return [item.text() for item in self.items()]

    def pairs(self) -> dict[str, str]:
        return {key: view.text() for key, view in self.mapping().items()}

    def truth(self) -> bool:
        word = self.text().lower()
        if word in _TRUE:
            return True
        if word in _FALSE or not word:
            return False
        raise self.wrong("true or false")

    def number(self) -> int:
        word = self.text()
        try:
            return int(word) if word else 0
        except ValueError:
            raise self.wrong("a whole number") from None


def root_of(text: str, source: str) -> View:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _not_yaml(error, source) from None
    if node is None:
        raise usage(f"{source} is empty")
    return View(node, "", source)


def _not_yaml(error: yaml.YAMLError, source: str) -> Problem:
    """Where and why; for what is opened and never closed, the line where it is opened."""
    mark, start = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if problem == "but found another document":
        problem, hint = "a second document begins here, and a spec is one", "put each app into a file of its own"
    elif problem == "found unexpected end of stream" and start is not None:
        mark, problem, hint = start, "a quote is opened here and not closed", ""
    elif str(problem).endswith("but got '<stream end>'") and start is not None:
        mark, problem, hint = start, "a bracket is opened here and not closed", ""
    elif "'\\t'" in str(problem):
        hint = "indent with spaces; YAML takes no tabs"
    elif str(problem).startswith("expected <block end>"):
        problem, hint = "this line is not indented as the ones around it", ""
    elif problem == "mapping values are not allowed here":
        hint = "put text that has a colon into quotes"
    else:
        hint = ""
    line = f":{mark.line + 1}" if mark is not None else ""
    return usage(f"{source}{line} is not YAML: {problem}", hint=hint)


def child(keys: dict[str, View], name: str) -> View:
    return keys.get(name) or View(None, name, "")


def known_keys(view: View, known: tuple[str, ...], warnings: list[str]) -> dict[str, View]:
    """The children; the ones nobody reads are told."""
    keys = view.mapping()
    warnings += _unknown(keys, known)
    return keys


def _unknown(keys: dict[str, View], known: tuple[str, ...]) -> Iterator[str]:
    for name, view in keys.items():
        if name not in known:
            hint = did_you_mean(name, known)
            yield f"{view.where}: {view.path} is not a key of specs and is ignored{'; ' + hint if hint else ''}"


def strict_keys(view: View, known: Sequence[str], what: str) -> dict[str, View]:
    """The children; one that nobody reads is an error."""
    keys = view.mapping()
    for name, each in keys.items():
        if name not in known:
            hint = did_you_mean(name, known) or f"known are {', '.join(known)}"
            raise usage(f"{each.where}: {each.path} is not a key of the {what}", hint=hint)
    return keys
