"""Deploy requests: from message to `DeploySpec`, checked in the published order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from eru.model.commands import split_command
from eru.model.deploy import DeploySpec, Entrypoint, FileToSend, LogConfig, NodeFilter, ReplaceSpec, Strategy
from eru.model.errors import InvalidInput, InvalidRawArgs
from eru.model.names import check_entrypoint, check_name
from eru.model.workloads import HealthCheck, Hook
from eru.wire import core_pb2 as pb
from eru.wire.convert.text import parse_bags, parse_object

FILE_MODE_DEFAULT = 0o755
FILE_MODE_MAX = 0o7777
ITEMS_MAX = 10_000  # entries of one list or map in a request
TEXT_CHARS_MAX = 128 * 1024  # one entry of such a list
IMAGE_CHARS_MAX = 1024

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")


def deploy_spec(options: pb.DeployOptions, *, lambda_: bool = False) -> DeploySpec:
    """A deploy. Raises InvalidInput for the first thing that is wrong, in the published order."""
    if not options.name:
        raise InvalidInput("app name is empty")
    if not options.podname:
        raise InvalidInput("pod name is empty")
    if not options.image:
        raise InvalidInput("image is empty")
    if options.count == 0:
        raise InvalidInput("count is 0")
    if not options.HasField("entrypoint"):
        raise InvalidInput("no entry in spec: entrypoint is missing")
    check_entrypoint(options.entrypoint.name)
    if options.count < 0:
        raise InvalidInput(f"count: {options.count}: invalid deploy count")
    return _spec(options, lambda_=lambda_)


def capacity_spec(options: pb.DeployOptions) -> DeploySpec:
    """The same message in a question for capacity: only the entrypoint name is asked for.

    `count` is needed by every strategy but DUMMY.
    """
    check_entrypoint(options.entrypoint.name)
    spec = _spec(options)
    if spec.strategy is not Strategy.DUMMY and spec.count <= 0:
        raise InvalidInput(f"count: {spec.count}: invalid deploy count")
    return spec


def replace_spec(options: pb.ReplaceOptions) -> ReplaceSpec:
    """A replace: app and entrypoint are enough, and count is at least 1. Raises InvalidInput."""
    if not options.HasField("deployOpt"):
        raise InvalidInput("no deploy options")
    deploy = options.deployOpt
    if not deploy.name:
        raise InvalidInput("app name is empty")
    if not deploy.HasField("entrypoint"):
        raise InvalidInput("no entry in spec: entrypoint is missing")
    check_entrypoint(deploy.entrypoint.name)
    spec = _spec(deploy)
    return ReplaceSpec(
        deploy=spec if spec.count > 0 else msgspec.structs.replace(spec, count=1),
        ids=[workload_id(id) for id in dict.fromkeys(options.IDs)],
        network_inherit=options.networkinherit,
        filter_labels=checked_map("filter_labels", options.filter_labels),
        copy={file_path(source): file_path(target) for source, target in options.copy.items()},
    )


def _spec(options: pb.DeployOptions, *, lambda_: bool = False) -> DeploySpec:
    if options.name:
        check_name("app name", options.name)
    if options.podname:
        check_name("pod name", options.podname)
    if options.nodes_limit < 0:
        raise InvalidInput(f"nodes_limit is {options.nodes_limit}, it cannot be negative")
    if len(options.image) > IMAGE_CHARS_MAX or any(letter.isspace() or letter < " " for letter in options.image):
        raise InvalidInput(f"image {options.image[:64]!r} is not an image reference")
    return DeploySpec(
        app=options.name,
        entrypoint=_entrypoint(options.entrypoint, options.extra_args),
        image=options.image,
        count=options.count,
        nodes=_node_filter(options),
        strategy=_strategy(options.deploy_strategy),
        nodes_limit=options.nodes_limit,
        resources=parse_bags(options.resources),
        env=checked_list("env", options.env),
        dns=checked_list("dns", options.dns),
        extra_hosts=checked_list("extra_hosts", options.extra_hosts),
        networks=checked_map("networks", options.networks),
        user=_user(options.user),
        debug=options.debug,
        open_stdin=options.open_stdin,
        lambda_=lambda_,
        labels=checked_map("labels", options.labels),
        files=files(options.data, options.modes, options.owners, defaults=True),
        ignore_hook=options.ignore_hook,
        ignore_pull=options.ignore_pull,
        after_create=checked_list("after_create", options.after_create),
        raw_args=_raw_args(options.raw_args),
    )


def _raw_args(data: bytes) -> dict[str, Any]:
    try:
        return parse_object("raw_args", data)
    except InvalidInput as error:
        raise InvalidRawArgs(str(error)) from error


def _user(user: str) -> str:
    """Published clients always send `root`, also for images without a password file: the number works in both."""
    return "0" if user == "root" else checked_text("user", user)


def _strategy(number: int) -> Strategy:
    try:
        return Strategy(number)
    except ValueError:
        raise InvalidInput(f"deploy method not support yet: strategy {number} is unknown") from None


def _entrypoint(options: pb.EntrypointOptions, extra_args: str) -> Entrypoint:
    commands = checked_list("commands", options.commands)
    if not commands:
        commands = split_command(checked_text("command", f"{options.command} {extra_args}".strip()))
    health = options.healthcheck
    return Entrypoint(
        name=options.name,
        commands=commands,
        privileged=options.privileged,
        dir=checked_text("dir", options.dir),
        log=LogConfig(type=options.log.type, config=dict(options.log.config)) if options.log.type else None,
        publish=checked_list("publish", options.publish),
        health_check=HealthCheck(
            tcp_ports=checked_list("tcp_ports", health.tcp_ports),
            http_port=health.http_port,
            http_url=health.url,
            http_code=health.code,
        )
        if options.HasField("healthcheck")
        else None,
        hook=_hook(options.hook) if options.HasField("hook") else None,
        restart=checked_text("restart", options.restart),
        sysctls=checked_map("sysctls", options.sysctls),
    )


def _hook(options: pb.HookOptions) -> Hook:
    after_start, before_stop = (
        checked_list("hook", commands) for commands in (options.after_start, options.before_stop)
    )
    for command in (*after_start, *before_stop):
        split_command(command)  # a hook that cannot be read is refused now, not when it is needed
    return Hook(after_start=after_start, before_stop=before_stop, force=options.force)


def _node_filter(options: pb.DeployOptions) -> NodeFilter:
    """A given filter replaces names and labels completely; repeated names count once."""
    if options.HasField("node_filter"):
        given = options.node_filter
        includes, excludes, labels = given.includes, given.excludes, given.labels
        return NodeFilter(
            podname=options.podname,
            includes=_node_names(includes),
            excludes=_node_names(excludes),
            labels=checked_map("node labels", labels),
        )
    return NodeFilter(
        podname=options.podname,
        includes=_node_names(options.nodenames),
        labels=checked_map("nodelabels", options.nodelabels),
    )


def _node_names(names: Iterable[str]) -> list[str]:
    return [check_name("node name", name) for name in dict.fromkeys(names)]


def files(
    data: Mapping[str, bytes],
    modes: Mapping[str, pb.FileMode],
    owners: Mapping[str, pb.FileOwner],
    *,
    defaults: bool,
) -> list[FileToSend]:
    """Files by path, sorted. `defaults`: owner and mode all 0 mean mode 0755."""
    made = []
    for path in sorted(data):
        mode = modes[path].mode if path in modes else 0
        uid, gid = (owners[path].uid, owners[path].gid) if path in owners else (0, 0)
        made.append(file_to_send(path, data[path], mode, uid, gid, defaults=defaults))
    return made


def file_to_send(path: str, content: bytes, mode: int, uid: int, gid: int, *, defaults: bool) -> FileToSend:
    """One checked file."""
    if mode < 0 or mode > FILE_MODE_MAX:
        raise InvalidInput(f"mode {mode:#o} of file {path[:200]!r} is not between 0 and {FILE_MODE_MAX:#o}")
    if uid < 0 or gid < 0:
        raise InvalidInput(f"owner {uid}:{gid} of file {path[:200]!r} cannot be negative")
    if defaults and not (mode or uid or gid):
        mode = FILE_MODE_DEFAULT
    return FileToSend(path=file_path(path), content=content, mode=mode, uid=uid, gid=gid)


def file_path(path: str) -> str:
    """An absolute path inside a workload. Raises InvalidInput."""
    parts = path.split("/")
    if not path or path.endswith("/") or "\0" in path or ".." in parts or len(path) > 4096:
        raise InvalidInput(f"file path {path[:200]!r} must name a file by an absolute path without '..'")
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def workload_id(id: str) -> str:
    """An id fit for a key. Raises InvalidInput."""
    if not id:
        raise InvalidInput("workload ID is empty")
    if not _ID.fullmatch(id):
        raise InvalidInput(f"workload ID {id[:64]!r} is not allowed: use letters, digits, '.', '_' and '-'")
    return id


def checked_text(field: str, text: str) -> str:
    """Raises InvalidInput for a text that is too long or holds a NUL."""
    if len(text) > TEXT_CHARS_MAX:
        raise InvalidInput(f"{field} has {len(text)} characters, at most {TEXT_CHARS_MAX} are allowed")
    if "\0" in text:
        raise InvalidInput(f"{field} holds a NUL character")
    return text


def checked_list(field: str, texts: Iterable[str]) -> list[str]:
    items = [checked_text(field, text) for text in texts]
    if len(items) > ITEMS_MAX:
        raise InvalidInput(f"{field} has {len(items)} entries, at most {ITEMS_MAX} are allowed")
    return items


def checked_map(field: str, texts: Mapping[str, str]) -> dict[str, str]:
    if len(texts) > ITEMS_MAX:
        raise InvalidInput(f"{field} has {len(texts)} entries, at most {ITEMS_MAX} are allowed")
    return {checked_text(field, key): checked_text(field, value) for key, value in texts.items()}
