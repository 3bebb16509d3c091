"""Image builds: from message to `BuildSpec`."""

from __future__ import annotations

from eru.model.builds import BuildMethod, BuildSpec, Stage
from eru.model.errors import InvalidInput
from eru.wire import core_pb2 as pb
from eru.wire.convert.deploy import checked_list, checked_map, checked_text


def build_spec(options: pb.BuildImageOptions) -> BuildSpec:
    """Raises InvalidInput."""
    try:
        method = BuildMethod(options.build_method)
    except ValueError:
        number = options.build_method
        raise InvalidInput(f"unknown build type {number}, expected 0 (SCM), 1 (RAW) or 2 (EXIST)") from None
    order = checked_list("stages", options.builds.stages)
    if options.HasField("builds") and not order:
        raise InvalidInput("no builds in spec: it names no stages")
    if method is BuildMethod.SCM and not order:
        raise InvalidInput("no builds in spec: a build from sources needs stages")
    stages = {name: _stage(build) for name, build in options.builds.builds.items()}
    for name in order:
        if name not in stages:
            raise InvalidInput(f"no build spec for stage {name[:64]!r}")
    return BuildSpec(
        name=checked_text("image name", options.name),
        method=method,
        tags=checked_list("tags", options.tags),
        user=checked_text("user", options.user),
        uid=options.uid,
        order=order,
        stages=stages,
        tar=options.tar,
        exist_id=checked_text("exist_id", options.exist_id),
        platform=checked_text("platform", options.platform),
    )


def _stage(build: pb.Build) -> Stage:
    return Stage(
        base=checked_text("base", build.base),
        repo=checked_text("repo", build.repo),
        version=checked_text("version", build.version),
        dir=checked_text("dir", build.dir),
        submodule=build.submodule,
        security=build.security,
        commands=checked_list("commands", build.commands),
        envs=checked_map("envs", build.envs),
        args=checked_map("args", build.args),
        labels=checked_map("labels", build.labels),
        artifacts=checked_map("artifacts", build.artifacts),
        cache=checked_map("cache", build.cache),
        stop_signal=checked_text("stop_signal", build.stop_signal),
    )
