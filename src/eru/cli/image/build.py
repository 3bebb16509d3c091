"""`eru image build`."""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import click

from eru.cli import resolve
from eru.cli.exits import Exit, not_found, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.live import Live
from eru.cli.spec.read import read
from eru.cli.spec.view import View, child, known_keys, root_of
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

TAR_BYTES_MAX = 20 * 1024 * 1024 - 64 * 1024  # one message of a core by default, less what goes with it
_VARIABLE = re.compile(r"\{\{\s*\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
BUILD_KEYS = (
    *("base", "repo", "version", "dir", "submodule", "commands", "envs", "args", "labels"),
    *("artifacts", "cache", "stop_signal", "stopsignal", "security"),
)


@verb(
    "build",
    examples="""
eru image build --name shop --tag 1.5 build.yaml
eru image build --name shop --tag 1.5 --raw ./folder-with-dockerfile
eru image build --name shop --tag debug --exist 3f2a
""",
)
@click.argument("source")
@click.option("--name", required=True, help="Name of the image, without registry and tag.")
@click.option("--tag", multiple=True, default=("latest",), show_default=True, help="A tag; can be repeated.")
@click.option("--raw", is_flag=True, help="SOURCE is a folder with a Dockerfile.")
@click.option("--exist", is_flag=True, help="SOURCE is a workload that becomes an image.")
@click.option("--user", default="", help="User in the image.")
@click.option("--uid", type=int, default=0, help="Its number.")
@click.option("--stop-signal", default="", help="Signal that stops it.")
@click.option("--platform", default="", help="For example linux/amd64.")
async def build(session: Session, source: str, raw: bool, exist: bool, **values: Any) -> int:
    """Build an image and push it to core's registry.

    SOURCE is a build spec (file or http(s) address); {{.NAME}} in it is replaced by the variable NAME.
    """
    if raw and exist:
        raise usage("--raw and --exist exclude each other")
    asked = pb.BuildImageOptions(
        name=values["name"],
        tags=values["tag"],
        user=values["user"],
        uid=values["uid"],
        platform=values["platform"],
    )
    if raw:
        asked.build_method = pb.BuildImageOptions.RAW
        asked.tar = _tar(source)
    elif exist:
        asked.build_method = pb.BuildImageOptions.EXIST
        asked.exist_id = (await resolve.ids(session, [source]))[0]
    else:
        warnings: list[str] = []
        text = expand(await read(source), source)
        asked.builds.CopyFrom(parse_builds(text, source, values["stop_signal"], warnings))
        for warning in warnings:
            session.talk.warn(warning)
    return await _follow(session, asked)


def expand(text: str, source: str) -> str:
    """Replace `{{.NAME}}` by variables of the environment; one that is not set is an error."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            line = text.count("\n", 0, match.start()) + 1
            raise usage(f"{source}:{line}: the variable {match[1]} is not set", hint=f"export {match[1]}=...")
        return os.environ[match[1]]

    return _VARIABLE.sub(value, text)


def parse_builds(text: str, source: str, stop_signal: str, warnings: list[str]) -> pb.Builds:
    """`stages` and `builds` of a spec. Raises Problem naming the line."""
    top = root_of(text, source).mapping()
    stages, builds = child(top, "stages").texts(), child(top, "builds").mapping()
    if not stages or not builds:
        raise usage(f"{source}: it has no {'builds' if stages else 'stages'}", hint="a build spec has both")
    missing = [stage for stage in stages if stage not in builds]
    if missing:
        raise usage(f"{source}: the stage {missing[0]!r} has no entry in builds")
    return pb.Builds(stages=stages, builds={name: _build(view, stop_signal, warnings) for name, view in builds.items()})


def _build(view: View, stop_signal: str, warnings: list[str]) -> pb.Build:
    keys = known_keys(view, BUILD_KEYS, warnings)
    return pb.Build(
        base=child(keys, "base").text(),
        repo=child(keys, "repo").text(),
        version=child(keys, "version").text(),
        dir=child(keys, "dir").text(),
        submodule=child(keys, "submodule").truth(),
        commands=child(keys, "commands").texts(),
        envs=child(keys, "envs").pairs(),
        args=child(keys, "args").pairs(),
        labels=child(keys, "labels").pairs(),
        artifacts=child(keys, "artifacts").pairs(),
        cache=child(keys, "cache").pairs(),
        stop_signal=stop_signal or child(keys, "stop_signal").text() or child(keys, "stopsignal").text(),
        security=child(keys, "security").truth(),
    )


def _tar(folder: str) -> bytes:
    """The folder as a tar, small enough for one message."""
    root = Path(folder)
    if not root.is_dir():
        raise not_found(f"there is no folder {folder}")
    if not (root / "Dockerfile").is_file():
        raise usage(f"{folder} has no Dockerfile")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path in sorted(root.rglob("*")):
            archive.add(path, arcname=str(path.relative_to(root)), recursive=False)
            if out.tell() > TAR_BYTES_MAX:
                raise usage(
                    f"{folder} has more than {TAR_BYTES_MAX} bytes", hint="leave large files out, or build from a repo"
                )
    return out.getvalue()


async def _follow(session: Session, asked: pb.BuildImageOptions) -> int:
    """Show the progress; the exit code is the builder's when it fails."""
    live = Live(session.talk)
    layers: dict[str, str] = {}
    async for message in session.stream(rpc.BuildImage, asked):
        if message.error or message.error_detail.code or message.error_detail.message:
            live.clear()
            session.talk.bad(f"build failed: {message.error_detail.message or message.error}")
            return int(message.error_detail.code) & 0xFF or Exit.ERROR
        if message.id:
            layers[message.id] = f"{message.id}: {message.status} {message.progress}".rstrip()
            live.draw(list(layers.values()))
            continue
        if layers:
            live.clear()
            layers.clear()
        if message.stream:
            session.write(message.stream)
        elif message.status:
            session.talk.say(message.status)
    live.clear()
    session.talk.good(f"built {', '.join(f'{asked.name}:{tag}' for tag in asked.tags)}")
    return Exit.OK
