"""An app that is being written down: its spec as text, and the command that deploys it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eru.cli.exits import Problem, usage

SCHEMA_LINE = "# yaml-language-server: $schema=./spec.schema.json"
_NOT_FOR_NAMES = re.compile(r"[^A-Za-z0-9.-]+")
_MEANT_BY_US = re.compile(r"\$(?=[${])")
_DOLLAR = "\0"  # a `$$` that has been read
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}")


@dataclass
class Draft:
    """One entrypoint of one app. Text may hold `${VAR}`, which stays to be replaced when it is deployed."""

    app: str
    entry: str
    image: str = ""
    commands: list[str] = field(default_factory=list)
    dir: str = ""
    restart: str = ""
    privileged: bool = False
    publish: list[str] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=dict)
    log: dict[str, Any] = field(default_factory=dict)
    healthcheck: dict[str, Any] = field(default_factory=dict)
    volumes: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    dns: list[str] = field(default_factory=list)
    extra_hosts: list[str] = field(default_factory=list)
    # said when deploying
    count: str = ""
    env: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)  # further options of deploy and their values
    raw: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)  # comments at the head

    def spec(self) -> dict[str, Any]:
        """The spec as data, without what is empty."""
        entry = {
            "commands": self.commands,
            "dir": self.dir,
            "restart": self.restart,
            "privileged": self.privileged,
            "publish": self.publish,
            "sysctls": self.sysctls,
            "log": self.log,
            "healthcheck": self.healthcheck,
        }
        rest = {"volumes": self.volumes, "labels": self.labels, "dns": self.dns, "extra_hosts": self.extra_hosts}
        return {
            "appname": self.app,
            "entrypoints": {self.entry: {key: value for key, value in entry.items() if value}},
            **{key: value for key, value in rest.items() if value},
        }

    def text(self, place: str, pod: str) -> str:
        """The file: a head with the command, then the spec."""
        import yaml

        head = [SCHEMA_LINE, "#   " + self.command(place, pod).replace("\n", "\\n"), *self.remarks]
        lines = "".join(f"{line if line.startswith('#') else '# ' + line}\n" for line in head)
        return lines + yaml.safe_dump(self.spec(), sort_keys=False, allow_unicode=True, width=1 << 20)

    def command(self, place: str, pod: str) -> str:
        """What deploys it, ready for a shell."""
        words = ["eru", "workload", "deploy", shell(place), "--pod", shell(pod or "POD"), "--entry", self.entry]
        words += ["--image", shell(self.image or "IMAGE")]
        if self.count:
            words += ["--count", shell(self.count)]
        for option, value in self.options.items():
            words += [option, shell(value)]
        if self.raw:
            words += ["--raw-args", shell(json.dumps(self.raw))]
        for item in self.env:
            words += ["--env", shell(item)]
        return " ".join(words)


def shell(text: str) -> str:
    """`text` as one word of a shell; `${VAR}` in it stays a variable, `$$` is a dollar."""
    text = text.replace("$$", _DOLLAR)
    if not _VARIABLE.search(text):
        return shlex.quote(text.replace(_DOLLAR, "$"))
    out, end = "", 0
    for match in _VARIABLE.finditer(text):
        out += _quoted(text[end : match.start()]) + match[0]
        end = match.end()
    return f'"{out}{_quoted(text[end:])}"'


def _quoted(text: str) -> str:
    """Inside double quotes of a shell."""
    return re.sub(r'([\\"`$])', r"\\\1", text).replace(_DOLLAR, r"\$")


def literal(text: str) -> str:
    """`text` so that a spec leaves it as it is: what looks like a variable is not one."""
    return _MEANT_BY_US.sub("$$", text)


def name_for(text: str, otherwise: str) -> str:
    """A name for an app or entrypoint out of any text: letters, digits, dots and dashes."""
    return _NOT_FOR_NAMES.sub("-", text).strip("-.")[:60] or otherwise


def app_of_image(image: str) -> str:
    """`registry:5000/team/shop:1.4@sha256:...` is called `shop`."""
    return name_for(image.partition("@")[0].rpartition("/")[2].partition(":")[0], "app")


def save(path: Path, text: str, *, force: bool) -> None:
    """Write a file that is not there yet. Raises Problem."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if force else "x") as file:
            file.write(text)
    except FileExistsError:
        raise usage(f"{path} is there already", hint="--force replaces it, or name another file") from None
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error.strerror or error}") from None


def lines_of(drafts: Sequence[Draft]) -> list[list[list[str]]]:
    """Rows for a table: entrypoint, image, count, ports."""
    return [[[each.entry], [each.image], [each.count or "1"], [", ".join(each.publish)]] for each in drafts]
