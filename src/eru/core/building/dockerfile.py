"""The Dockerfile that a build's stages stand for. Pure."""

from __future__ import annotations

import json
import re

from eru.model.builds import BuildSpec, Stage
from eru.model.errors import InvalidInput

_STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_USER = re.compile(r"[a-z_][a-z0-9_\-]{0,31}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")


def dockerfile(spec: BuildSpec) -> str:
    """One FROM per stage in order; stage names that are not described are left out. Raises InvalidInput."""
    parts: list[str] = []
    previous = ""
    for name in spec.order:
        stage = spec.stages.get(name)
        if stage is None:
            continue
        parts.extend(_stage(name, stage, previous, spec.stages.get(previous)))
        previous = name
    if not parts:
        raise InvalidInput("no builds in spec")
    if spec.user and spec.uid:
        parts.extend(_user(spec.user, spec.uid))
    return "\n".join(parts)


def repo_name(url: str) -> str:
    """The directory of a repository in the build context: the last part of its URL without `.git`."""
    return re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")


def _stage(name: str, stage: Stage, previous: str, before: Stage | None) -> list[str]:
    if not _STAGE.fullmatch(name):
        raise InvalidInput(f"stage name {name[:64]!r} must be letters, digits, '.', '_' and '-'")
    if not stage.base:
        raise InvalidInput(f"stage {name!r} has no base image")
    parts = [f"FROM {_line(stage.base)} as {name}"]
    parts += [f"ARG {_variable(key)}={_quoted(stage.args[key])}" for key in sorted(stage.args)]
    parts += [f"ENV {_variable(key)} {_quoted(stage.envs[key])}" for key in sorted(stage.envs)]
    parts += [f"LABEL {_line(key)}={_line(stage.labels[key])}" for key in sorted(stage.labels)]
    directory = _line(stage.dir)
    parts.append(f"RUN mkdir -p {directory}\nWORKDIR {directory}" if directory else "")
    parts.append(f"ADD {repo_name(stage.repo)} ." if stage.repo else "")
    parts.append(f"STOPSIGNAL {_line(stage.stop_signal)} " if stage.stop_signal else "")
    if before is not None:
        parts += [f"COPY --from={previous} {_line(src)} {_line(dst)}" for src, dst in sorted(before.cache.items())]
    parts += [f"RUN {command}" for command in stage.commands]
    return parts


def _user(user: str, uid: int) -> list[str]:
    if not _USER.fullmatch(user):
        raise InvalidInput(f"build user {user[:64]!r} must be a lower-case user name")
    if not 0 < uid < 1 << 31:
        raise InvalidInput(f"build uid {uid} must be a positive number")
    return [
        f"RUN echo '{user}::{uid}:{uid}:{user}:/dev/null:/sbin/nologin' >> /etc/passwd && "
        f"echo '{user}:x:{uid}:' >> /etc/group && echo '{user}:!::0:::::' >> /etc/shadow",
        f"USER {user}",
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise InvalidInput(f"variable name {name[:64]!r} in a build stage must be letters, digits and '_'")
    return name


def _line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise InvalidInput(f"{text[:64]!r} in a build stage must be one line")
    return text
