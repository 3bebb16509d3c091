"""Compose files, read: a draft per service, and for everything that has no counterpart a note with its line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eru.cli.apps.draft import Draft, literal, name_for
from eru.cli.apps.unmapped import DEFAULT, SERVICE, TOP
from eru.cli.exits import Problem, usage
from eru.cli.spec.view import View, child, root_of
from eru.cli.suggest import did_you_mean

PORTS_MAX = 100  # of one range
_DOLLAR = re.compile(r"\$\$|\$\{([A-Za-z_]\w*)(?:(:?[-?+])([^}]*))?\}|\$([A-Za-z_]\w*)")
_PORT = re.compile(r"(?:(?P<host>[^/]*):)?(?P<target>\d+(?:-\d+)?)(?:/(?P<protocol>\w+))?")
_CONSTRAINT = re.compile(r"\s*node\.labels\.([\w.-]+)\s*==\s*(\S+)\s*")
_RESTART = {"unless-stopped": "always", "any": "always", "none": "no"}
Read = Callable[[str], str]


@dataclass
class Compose:
    """What a file became: drafts, and notes `FILE:LINE: KEY: what, because`."""

    app: str
    drafts: list[Draft] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(text: str, source: str, app: str, otherwise: str, env_file: Read) -> Compose:
    """The services of a compose file. Raises Problem.

    `app` names the app; without it the file does, or else it is called
    `otherwise`. `env_file` reads a file beside it.
    """
    top = root_of(text, source).mapping()
    made = Compose(app or name_for(child(top, "name").text(), otherwise))
    services = child(top, "services").mapping()
    if not services:
        raise usage(f"{source}: it has no services", hint="is it a compose file? `eru init` begins without one")
    for name, view in top.items():
        if name not in ("services", "name", "version") and not name.startswith("x-"):
            made.notes.append(_note(view, TOP.get(name, DEFAULT)))
    for name, view in services.items():
        made.drafts.append(Service(made, name, view, env_file).draft())
    entries = [each.entry for each in made.drafts]
    if twice := {each for each in entries if entries.count(each) > 1}:
        raise usage(f"{source}: two services would become the entrypoint {min(twice)!r}", hint="rename one of them")
    return made


def _note(view: View, because: str, what: str = "not mapped") -> str:
    return f"{view.where}: {view.path}: {what}, because {because}"


class Service:
    """One service on its way to a draft."""

    def __init__(self, made: Compose, name: str, view: View, env_file: Read) -> None:
        self.made = made
        self.view = view
        self.env_file = env_file
        self.made_from = name
        self.out = Draft(made.app, name_for(name.replace("_", "-"), "main"))

    def draft(self) -> Draft:
        """The service; every key of it is mapped or noted."""
        keys = self.view.mapping()
        if self.out.entry != self.made_from:
            why = f"names of entrypoints have letters, digits, dots and dashes; it is {self.out.entry}"
            self.note(self.view, why, "renamed")
        for name, view in keys.items():
            if name.startswith("x-") or view.absent:
                continue
            mapper = getattr(self, f"_{name}") if name in _MAPPED else None
            if mapper is None:
                near = "" if name in SERVICE else did_you_mean(name, [*SERVICE, *_MAPPED])
                self.note(view, SERVICE.get(name, DEFAULT) + (f"; {near}" if near else ""))
                continue
            try:
                mapper(view)
            except Problem as problem:
                self.made.notes.append(f"{problem.what}; not mapped")
        if not ({"image", "build"} & set(keys)):
            self.note(self.view, "it has no image, and a deploy needs one", "incomplete")
        if not ({"network_mode", "networks"} & set(keys)):
            self.out.options.setdefault("--network", "bridge")
        return self.out

    def note(self, view: View, because: str, what: str = "not mapped") -> None:
        """What a reader has to know."""
        self.made.notes.append(_note(view, because, what))

    def text(self, view: View) -> str:
        """Text with variables as specs write them."""

        def value(match: re.Match[str]) -> str:
            name, form, word, bare = match.groups()
            if match[0] == "$$":
                return "$$"
            if form in ("-", ":-"):
                return f"${{{name}:-{word}}}"
            if form in ("+", ":+"):
                self.note(view, f"specs know no {match[0]}", "kept as it is written")
                return literal(match[0])
            return f"${{{name or bare}}}"

        return _DOLLAR.sub(value, view.text())

    def texts(self, view: View) -> list[str]:
        """A list, or one text as a list of one."""
        return [self.text(each) for each in _items(view)]

    def pairs(self, view: View, separator: str = "=") -> dict[str, str]:
        """A mapping, or a list of `key=value`; a key without value takes it from the environment."""
        if _is_list(view):
            halves = [self.text(each).partition(separator) for each in _items(view)]
            return {key: value if sign else f"${{{key}:-}}" for key, sign, value in halves}
        return {key: f"${{{key}:-}}" if each.absent else self.text(each) for key, each in view.mapping().items()}

    def words(self, view: View) -> list[str]:
        """A command: words, or a line that is split as a shell does."""
        if _is_list(view):
            return self.texts(view)
        try:
            return shlex.split(self.text(view))
        except ValueError as error:
            raise usage(f"{view.where}: {view.path} is no command: {error}") from None

    # -- one method per key, called by its name

    def _image(self, view: View) -> None:
        self.out.image = self.text(view)

    def _command(self, view: View) -> None:
        self.out.commands += self.words(view)

    def _entrypoint(self, view: View) -> None:
        self.out.commands[:0] = self.words(view)
        self.note(view, "the image's own entrypoint, if it has one, still runs first", "put before the command")

    def _working_dir(self, view: View) -> None:
        self.out.dir = self.text(view)

    def _privileged(self, view: View) -> None:
        self.out.privileged = view.truth()

    def _restart(self, view: View) -> None:
        word = self.text(view)
        self.out.restart = _RESTART.get(word, word)
        if word == "unless-stopped":
            self.note(view, "a workload that Eru stopped stays stopped anyway", "mapped to always")

    def _ports(self, view: View) -> None:
        for item in _items(view):
            keys = item.mapping() if _is_mapping(item) else {}
            short = self.text(child(keys, "target")) if keys else self.text(item)
            match = _PORT.fullmatch(short)
            if match is None:
                self.note(item, f"{short!r} is no port")
                continue
            host = self.text(child(keys, "published")) if keys else match["host"]
            protocol = (self.text(child(keys, "protocol")) if keys else match["protocol"]) or "tcp"
            self.offer(item, match["target"])
            if host:
                self.note(item, "an instance is reached at its own address", f"host port {host} not mapped")
            if protocol != "tcp":
                self.note(item, "publish names ports, not protocols", f"{protocol} not mapped")

    def _expose(self, view: View) -> None:
        for item in _items(view):
            self.offer(item, self.text(item).partition("/")[0])

    def offer(self, item: View, text: str) -> None:
        first, _, last = text.partition("-")
        if not (first.isdigit() and (last or first).isdigit()):
            self.note(item, f"{text!r} is no port")
            return
        found = range(int(first), int(last or first) + 1)
        if len(found) > PORTS_MAX:
            self.note(item, f"it has {len(found)} ports, more than {PORTS_MAX}")
            return
        self.out.publish += [str(port) for port in found if str(port) not in self.out.publish]

    def _environment(self, view: View) -> None:
        given = self.pairs(view)
        self.out.env = [each for each in self.out.env if each.partition("=")[0] not in given]
        self.out.env += [f"{key}={value}" for key, value in given.items()]

    def _env_file(self, view: View) -> None:
        known = {each.partition("=")[0] for each in self.out.env}
        for item in _items(view):
            path = self.text(child(item.mapping(), "path")) if _is_mapping(item) else self.text(item)
            try:
                found = _env_lines(self.env_file(path))
            except Problem as problem:
                self.note(item, problem.what)
                continue
            self.out.env += [f"{key}={literal(value)}" for key, value in found.items() if key not in known]

    def _volumes(self, view: View) -> None:
        for item in _items(view):
            if _is_mapping(item):
                self.long_volume(item)
                continue
            source, _, rest = self.text(item).partition(":")
            target, _, flags = rest.partition(":")
            self.mount(item, source, target, flags)

    def long_volume(self, item: View) -> None:
        keys = item.mapping()
        kind = child(keys, "type").text() or "volume"
        if kind not in ("bind", "volume"):
            self.note(item, f"volumes of specs are folders and named volumes, not {kind}")
            return
        flags = "ro" if child(keys, "read_only").truth() else "rw"
        self.mount(item, self.text(child(keys, "source")), self.text(child(keys, "target")), flags)
        for name in keys.keys() - {"type", "source", "target", "read_only"}:
            self.note(keys[name], "volumes of specs have no such setting")

    def mount(self, item: View, source: str, target: str, flags: str) -> None:
        if not source or not target:
            self.note(item, "a volume without a name belongs to the image, and lives and dies with each instance")
            return
        if source.startswith((".", "~")):
            self.note(item, f"{source} is beside the compose file, and an instance runs on a node; give a path there")
            return
        if not target.startswith("/"):
            self.note(item, f"the target {target} is not an absolute path")
            return
        known = [flag for flag in flags.split(",") if flag in ("ro", "rw")]
        self.out.volumes.append(f"{source}:{target}:{known[0] if known else 'rw'}")

    def _labels(self, view: View) -> None:
        self.out.labels |= self.pairs(view)

    def _dns(self, view: View) -> None:
        self.out.dns = self.texts(view)

    def _extra_hosts(self, view: View) -> None:
        if _is_list(view):
            self.out.extra_hosts = [each.replace("=", ":", 1) for each in self.texts(view)]
        else:
            self.out.extra_hosts = [f"{name}:{self.text(each)}" for name, each in view.mapping().items()]

    def _sysctls(self, view: View) -> None:
        self.out.sysctls = self.pairs(view)

    def _logging(self, view: View) -> None:
        keys = view.mapping()
        self.out.log = {"type": self.text(child(keys, "driver")) or "json-file"}
        if options := self.pairs(child(keys, "options")):
            self.out.log["config"] = options

    def _user(self, view: View) -> None:
        self.out.options["--user"] = self.text(view)

    def _network_mode(self, view: View) -> None:
        mode = self.text(view)
        if mode.startswith(("service:", "container:")):
            self.note(view, "instances do not share the network of another")
            return
        self.out.options["--network"] = mode

    def _networks(self, view: View) -> None:
        listed = _is_list(view)
        found = self.texts(view) if listed else list(view.mapping())
        for index, name in enumerate(found):
            item = _items(view)[index] if listed else view.mapping()[name]
            where = item if item.node is not None else view
            if index:
                self.note(where, f"deploy joins one network; afterwards: eru network connect ID --network {name}")
                continue
            address = "" if listed or item.absent else self.text(child(item.mapping(), "ipv4_address"))
            self.out.options["--network"] = f"{name}={address}" if address else name
            if not listed and not item.absent and set(item.mapping()) - {"ipv4_address"}:
                self.note(item, "a network is joined by its name only")

    def _scale(self, view: View) -> None:
        if self.text(view) == "0":
            self.note(view, "a deploy makes at least one instance; deploy it when it is wanted")
        else:
            self.out.count = self.text(view)

    def _cpus(self, view: View) -> None:
        self.out.options["--cpu-limit"] = self.text(view)

    def _mem_limit(self, view: View) -> None:
        self.out.options["--memory-limit"] = _size(self.text(view))

    def _mem_reservation(self, view: View) -> None:
        self.out.options["--memory-request"] = _size(self.text(view))

    def _cap_add(self, view: View) -> None:
        self.out.raw["cap_add"] = view.texts()

    def _cap_drop(self, view: View) -> None:
        self.out.raw["cap_drop"] = view.texts()

    def _pid(self, view: View) -> None:
        self.out.raw["pid_mod"] = view.text()

    def _runtime(self, view: View) -> None:
        self.out.raw["runtime"] = view.text()

    def _ulimits(self, view: View) -> None:
        limits = []
        for name, each in view.mapping().items():
            keys = each.mapping() if _is_mapping(each) else {"soft": each, "hard": each}
            limits.append({"Name": name, "Soft": child(keys, "soft").number(), "Hard": child(keys, "hard").number()})
        self.out.raw["ulimits"] = limits

    def _healthcheck(self, view: View) -> None:
        keys = view.mapping()
        if child(keys, "disable").truth():
            return
        made: dict[str, Any] = {}
        for name, each in keys.items():
            if name == "test":
                words = self.texts(each) if _is_list(each) else ["CMD-SHELL", self.text(each)]
                if words[:1] == ["NONE"]:
                    return
                made["exec"] = shlex.join(["sh", "-c", *words[1:]] if words[0] == "CMD-SHELL" else words[1:])
            elif name in ("interval", "timeout"):
                made[name] = self.text(each)
            elif name == "retries":
                made["unhealthy_threshold"] = each.number()
            elif name != "disable":
                self.note(each, "the agent begins to probe as soon as an instance runs")
        self.out.healthcheck = made

    def _deploy(self, view: View) -> None:
        for name, each in view.mapping().items():
            if name == "replicas":
                self._scale(each)
            elif name == "mode" and self.text(each) == "global":
                self.out.options["--deploy-strategy"] = "EACH"
            elif name == "mode" and self.text(each) == "replicated":
                continue
            elif name == "resources":
                self.part_resources(each)
            elif name == "restart_policy":
                self.part_restart_policy(each)
            elif name == "placement":
                self.part_placement(each)
            else:
                self.note(each, SERVICE.get(f"deploy.{name}", DEFAULT))

    def part_resources(self, view: View) -> None:
        words = {"limits": "limit", "reservations": "request"}
        for name, part in view.mapping().items():
            for key, each in part.mapping().items():
                if name not in words or key not in ("cpus", "memory"):
                    self.note(each, SERVICE.get(f"deploy.resources.{key}", DEFAULT))
                elif key == "cpus":
                    self.out.options[f"--cpu-{words[name]}"] = self.text(each)
                else:
                    self.out.options[f"--memory-{words[name]}"] = _size(self.text(each))

    def part_restart_policy(self, view: View) -> None:
        for name, each in view.mapping().items():
            if name == "condition":
                word = self.text(each)
                self.out.restart = _RESTART.get(word, word)
            elif name == "max_attempts" and "on-failure" in (self.out.restart, _text_of(view, "condition")):
                self.out.restart = f"on-failure:{self.text(each)}"
            else:
                self.note(each, "the engine restarts at its own pace")

    def part_placement(self, view: View) -> None:
        for name, each in view.mapping().items():
            for item in _items(each) if name == "constraints" else [each]:
                match = _CONSTRAINT.fullmatch(self.text(item)) if name == "constraints" else None
                if match is None:
                    self.note(item, "nodes are chosen by --node and --nodelabel KEY=VALUE")
                elif "--nodelabel" in self.out.options:
                    self.note(item, "one label is mapped; add the others with --nodelabel")
                else:
                    self.out.options["--nodelabel"] = f"{match[1]}={match[2]}"


def _text_of(view: View, name: str) -> str:
    return child(view.mapping(), name).text()


def _is_list(view: View) -> bool:
    return type(view.node).__name__ == "SequenceNode"


def _is_mapping(view: View) -> bool:
    return type(view.node).__name__ == "MappingNode"


def _items(view: View) -> list[View]:
    """The items of a list; a single value is a list of one."""
    if not _is_list(view) or view.node is None:
        return [] if view.absent else [view]
    return [View(node, f"{view.path}[{index}]", view.source) for index, node in enumerate(view.node.value)]


def _size(text: str) -> str:
    """`512mb` as our options have it."""
    return text if "$" in text else text.upper().removesuffix("B") or text


def _env_lines(text: str) -> Mapping[str, str]:
    """`KEY=value` lines of an env file; quotes around a value are taken off."""
    found = {}
    for line in text.splitlines():
        key, sign, value = line.strip().removeprefix("export ").partition("=")
        if sign and key and not key.startswith("#"):
            value = value.strip()
            quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
            found[key.strip()] = value[1:-1] if quoted else value
    return found


_MAPPED = tuple(name[1:] for name in vars(Service) if re.fullmatch(r"_[a-z]\w*", name))
