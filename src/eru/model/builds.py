"""What can be asked for in an image build, after the wire form was checked."""

from __future__ import annotations

import enum

import msgspec


class BuildMethod(enum.IntEnum):
    """Where the image comes from; numbers as on the wire."""

    SCM = 0
    RAW = 1
    EXIST = 2


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a generated Dockerfile.

    `artifacts` are URLs of zip files that replace the cloned sources; `cache`
    maps paths of this stage to paths of the next one; `security` leaves the
    history out.
    """

    base: str = ""
    repo: str = ""
    version: str = ""
    dir: str = ""
    submodule: bool = False
    security: bool = False
    commands: list[str] = []
    envs: dict[str, str] = {}
    args: dict[str, str] = {}
    labels: dict[str, str] = {}
    artifacts: dict[str, str] = {}
    cache: dict[str, str] = {}
    stop_signal: str = ""


class BuildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A whole build. `order` names the stages to use, in order; `tar` is the context for RAW."""

    name: str
    method: BuildMethod = BuildMethod.SCM
    tags: list[str] = []
    user: str = ""
    uid: int = 0
    order: list[str] = []
    stages: dict[str, Stage] = {}
    tar: bytes = b""
    exist_id: str = ""
    platform: str = ""
