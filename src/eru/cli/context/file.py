"""The file of contexts: read with the place of every mistake, written whole.

    current: prod
    contexts:
      prod:
        address: core1:5001,core2:5001
        username: ops
        password_file: ~/.config/eru/prod.password
        tls_ca: /etc/eru/ca.pem
        pod: web
        output: wide
        production: true

Its place is ERU_CONFIG, else `eru/config.yaml` in XDG_CONFIG_HOME or ~/.config.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eru.cli.context.password import FORMS, Secret, private
from eru.cli.context.place import place
from eru.cli.exits import Problem, not_found, usage
from eru.cli.settings import FORMATS
from eru.cli.suggest import did_you_mean

TOP_KEYS = ("current", "contexts")
TEXT_KEYS = ("address", "username", *FORMS, "tls_ca", "tls_cert", "tls_key", "tls_server_name", "pod", "output")
TRUTH_KEYS = ("tls", "production")
KEYS = (*TEXT_KEYS, *TRUTH_KEYS)
PATH_KEYS = ("tls_ca", "tls_cert", "tls_key")
FILE_BYTES_MAX = 1024 * 1024


@dataclass
class Contexts:
    """What the file says. `known`: name -> key -> text or truth, only keys that are there."""

    path: Path
    current: str = ""
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def get(self, name: str, asked_by: str = "") -> dict[str, Any]:
        """One context. Raises Problem naming what there is."""
        if name in self.known:
            return self.known[name]
        hint = did_you_mean(name, self.known) or "`eru context list` shows them"
        if not self.known:
            hint = f"eru context set {name} --address HOST:PORT"
        by = f" ({asked_by})" if asked_by else ""
        raise not_found(f"there is no context {name!r}{by}", why=f"the file is {self.path}", hint=hint)


def read() -> Contexts:
    """The file, or nothing if there is none. Raises Problem with line and key."""
    path = place()
    try:
        with path.open() as file:
            text = file.read(FILE_BYTES_MAX)
    except FileNotFoundError:
        return Contexts(path)
    except (OSError, UnicodeDecodeError) as error:
        raise usage(f"config file {path}: {getattr(error, 'strerror', None) or error}") from None
    said = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return parse(text, path) if said else Contexts(path)


def parse(text: str, path: Path) -> Contexts:
    """The contexts of a text. Raises Problem with line and key."""
    from eru.cli.spec.view import child, root_of, strict_keys

    made = Contexts(path)
    root = root_of(text, str(path))
    if root.absent:
        return made
    top = strict_keys(root, TOP_KEYS, "config file")
    made.current = child(top, "current").text()
    for name, view in child(top, "contexts").mapping().items():
        made.known[name] = _one(strict_keys(view, KEYS, "contexts"), view.where)
    if any("password" in values for values in made.known.values()) and path.exists() and not private(path):
        raise usage(f"others can read {path}, and it holds a password", hint=f"chmod 600 {path}")
    if made.current and made.current not in made.known:
        view = child(top, "current")
        hint = did_you_mean(made.current, made.known) or "`eru context use NAME` chooses another"
        raise usage(f"{view.where}: current: there is no context {made.current!r} below contexts", hint=hint)
    return made


def _one(keys: dict[str, Any], where: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, view in keys.items():
        value = view.truth() if name in TRUTH_KEYS else view.text()
        if name == "output" and value and value not in FORMATS:
            raise view.wrong(f"one of {', '.join(FORMATS)}")
        if value not in ("", False):
            values[name] = os.path.expanduser(value) if name in PATH_KEYS else value
    forms = [form for form in FORMS if form in values]
    if len(forms) > 1:
        raise usage(f"{keys[forms[1]].where}: {keys[forms[1]].path} and {forms[0]} exclude each other")
    return values


def secret_of(values: dict[str, Any]) -> Secret | None:
    """Where the password of a context is, if it has one."""
    return next((Secret(form, values[form]) for form in FORMS if form in values), None)


def write(contexts: Contexts) -> None:
    """Replace the file as a whole, readable by its owner only; comments at its head stay."""
    import yaml

    path = contexts.path
    head = _head(path)
    data: dict[str, Any] = {"current": contexts.current} if contexts.current else {}
    data["contexts"] = contexts.known
    text = head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise Problem(f"config file {path} cannot be written: {error.strerror or error}") from None


def _head(path: Path) -> str:
    try:
        lines = path.read_text().splitlines(keepends=True)
    except OSError:
        return ""
    count = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[:count])
