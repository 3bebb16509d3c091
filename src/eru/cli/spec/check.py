"""Everything that is wrong with a spec, each with line and key."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eru.cli.exits import Problem, usage
from eru.cli.spec.keys import ANY, KEYS, NAMED, NOTE, Kind, below
from eru.cli.spec.view import View
from eru.cli.suggest import did_you_mean
from eru.model.errors import InvalidInput
from eru.model.names import check_entrypoint, check_name

_ENTRY = f"entrypoints.{ANY}"
DURATION = re.compile(r"\d+(\.\d+)?|(\d+(\.\d+)?(ms|s|m|h))+")
THRESHOLD = re.compile(r"[1-9]\d{0,3}")


# What other systems write into their files.
OTHERS = {
    **dict.fromkeys(("image",), "say it when deploying: --image"),
    **dict.fromkeys(("count", "replicas", "scale", "instances"), "say it when deploying: --count"),
    **dict.fromkeys(("env", "environment", "envs"), "say it when deploying: --env KEY=VALUE"),
    **dict.fromkeys(("cpu", "cpus", "resources", "memory", "mem", "limits"), "say it when deploying: --cpu, --memory"),
    **dict.fromkeys(("pod", "podname", "namespace"), "say it when deploying: --pod"),
    **dict.fromkeys(("network", "networks", "network_mode"), "say it when deploying: --network"),
    **dict.fromkeys(("ports", "port", "expose"), "it is called publish, below an entrypoint"),
    **dict.fromkeys(("services", "containers"), "it is called entrypoints; `eru import` reads compose files"),
    **dict.fromkeys(("working_dir", "workdir"), "it is called dir, below an entrypoint"),
    **dict.fromkeys(("apiversion", "kind", "metadata"), "that is of a Kubernetes manifest; `eru spec example` is one"),
    "name": "it is called appname",
}


@dataclass(frozen=True)
class Finding:
    """One mistake, at a path of the document. `ignored`: it does no harm; `unknown`: a key that nobody reads."""

    what: str
    hint: str = ""
    path: str = ""
    ignored: bool = False
    unknown: bool = False

    def about(self, entry: str) -> bool:
        """Whether it matters to who deploys only this entrypoint."""
        first, second = [*self.path.split("."), ""][:2]
        return first != "builds" and (first != "entrypoints" or second in ("", entry))

    @property
    def told(self) -> str:
        """In one line."""
        return f"{self.what}; {self.hint}" if self.hint else self.what


def findings(root: View) -> list[Finding]:
    """All mistakes in the order of the text."""
    try:
        return list(_mapping(root, ""))
    except Problem as problem:
        return [Finding(problem.what, problem.hint)]


def refuse(found: list[Finding], source: str) -> None:
    """Raise one Problem for all that matter, if there are any."""
    wrong = [each for each in found if not each.ignored]
    if not wrong:
        return
    if len(wrong) == 1:
        raise usage(wrong[0].what, hint=wrong[0].hint or f"`eru spec check {source}` checks without deploying")
    raise usage(f"{source} has {len(wrong)} mistakes", why=[each.told for each in wrong], hint="`eru explain` has keys")


def _mapping(view: View, path: str) -> Iterator[Finding]:
    """What is wrong at and below a mapping whose keys the table has at `path`."""
    known = below(path)
    for name, each in view.mapping().items():
        if name.startswith(NOTE):
            continue
        if name not in known:
            hint = _elsewhere(name) or did_you_mean(name, known) or _indented(each, path)
            yield Finding(f"{each.where}: {each.path} is not a key of specs", hint, each.path, unknown=True)
            continue
        key = KEYS[f"{path}.{name}" if path else name]
        if key.unused and not each.absent:
            yield Finding(f"{each.where}: {each.path} is not used, core has no such hook", path=each.path, ignored=True)
        yield from _value(each, f"{path}.{name}" if path else name, key.kind)


def _indented(view: View, path: str) -> str:
    """A hint for an entrypoint that begins at the margin."""
    known = below(_ENTRY)
    at_top = not path and view.has_keys
    return "indent it deeper, below entrypoints" if at_top and any(key in known for key in view.mapping()) else ""


def _elsewhere(name: str) -> str:
    """Where a key of this name belongs, if it is known in another place, or by another name."""
    if name.lower() in OTHERS:
        return OTHERS[name.lower()]
    found = [key for key in KEYS if key.rpartition(".")[2] == name]
    return f"it belongs to {found[0].rpartition('.')[0] or 'the top'}" if found else ""


def _value(view: View, path: str, kind: Kind) -> Iterator[Finding]:
    try:
        if path in NAMED:
            for name, each in view.mapping().items():
                if path == "entrypoints":
                    yield from _entry_name(name, each)
                    if name in below(_ENTRY) and not each.has_keys:
                        raise each.wrong("a mapping (key: value)", "indent it deeper, below the name of an entrypoint")
                yield from _mapping(each, f"{path}.{ANY}")
        elif kind is Kind.MAPPING:
            yield from _mapping(view, path)
        elif path == "appname" and view.text():
            check_name("appname", view.text())
        else:
            _READS[kind](view)
    except Problem as problem:
        yield Finding(problem.what, problem.hint, view.path)
    except InvalidInput as error:
        yield Finding(f"{view.where}: {error}", path=view.path)


def _entry_name(name: str, view: View) -> Iterator[Finding]:
    try:
        check_entrypoint(name)
    except InvalidInput as error:
        yield Finding(f"{view.where}: {view.path}: {error}", path=view.path)


def duration(view: View) -> str:
    """`5s`, `1m30s`, or "". Raises Problem."""
    if (text := view.text()) and not DURATION.fullmatch(text):
        raise view.wrong("a duration such as 5s or 1m30s")
    return text


def threshold(view: View) -> str:
    """A count, as text, or "". Raises Problem."""
    if (text := view.text()) and not THRESHOLD.fullmatch(text):
        raise view.wrong("a whole number from 1 to 9999")
    return text


def command(view: View) -> str:
    """A line that a shell could split, or "". Raises Problem."""
    text = view.text()
    try:
        shlex.split(text)
    except ValueError as error:
        raise usage(f"{view.where}: {view.path} is no command: {error}") from None
    return text


_READS: dict[Kind, Callable[[View], object]] = {
    Kind.TEXT: View.text,
    Kind.TEXTS: View.texts,
    Kind.PAIRS: View.pairs,
    Kind.TRUTH: View.truth,
    Kind.NUMBER: View.number,
    Kind.DURATION: duration,
    Kind.THRESHOLD: threshold,
    Kind.COMMAND: command,
}
