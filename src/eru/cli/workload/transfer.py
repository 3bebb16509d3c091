"""`eru workload copy|send|sendlarge`: files out of and into workloads."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from eru.cli import resolve
from eru.cli.exits import Exit, explain, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.spec import files
from eru.cli.workload.select import chosen, selectors
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

CHUNK_BYTES = 256 * 1024  # one message of a large file


@verb(
    "copy",
    examples="""
eru workload copy 3f2a:/var/log/app.log,/etc/app.conf --dir ./fetched
eru workload copy --app shop --entry web :/var/log/app.log --dir ./fetched
""",
)
@selectors
@click.option("-d", "--dir", "folder", default="/tmp", show_default=True, help="Where the archives go.")
async def copy(session: Session, ids: tuple[str, ...], folder: str, **values: Any) -> int:
    """Fetch files as tar archives, one per file. The names of the archives are printed.

    IDS are ID:PATH[,PATH]..., or :PATH[,PATH]... for all that the selectors pick.
    """
    if not ids:
        raise usage("nothing says what to copy", hint="eru workload copy 3f2a:/etc/hosts, or --app shop :/etc/hosts")
    everyone: list[str] | None = None
    targets: dict[str, pb.CopyPaths] = {}
    for source in ids:
        word, colon, paths = source.partition(":")
        wanted = [path for path in paths.split(",") if path]
        if not (colon and wanted) or (not word and not any(values.values())):
            raise usage(f"{source!r} is not of the form id:path1,path2", hint="eru workload copy 3f2a:/etc/hosts")
        if word:
            from_ = await resolve.ids(session, [word])
        else:
            from_ = everyone = everyone or (await chosen(session, {**values, "ids": ()}, "copy from")).ids
        for id_ in from_:
            targets.setdefault(id_, pb.CopyPaths()).paths.extend(wanted)
    if everyone is None and any(values.values()):
        raise usage("the selectors pick workloads, but no :PATH says what to fetch", hint="for example :/etc/hosts")
    return await _fetch(session, pb.CopyOptions(targets=targets), _folder(folder))


def _folder(text: str) -> Path:
    """The folder, made if need be, for its owner only."""
    place = Path(text)
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise usage(f"--dir {text}: {error.strerror}") from None
    return place


async def _fetch(session: Session, asked: pb.CopyOptions, place: Path) -> int:
    open_files: dict[tuple[str, str], tuple[Path, BinaryIO]] = {}
    failed: set[tuple[str, str]] = set()
    stamp = time.strftime("%Y.%m.%d.%H.%M.%S", time.localtime(session.world.clock.now()))
    try:
        async for message in session.stream(rpc.Copy, asked):
            key = (message.id, message.path)
            if message.error:
                failed.add(key)
                session.talk.bad(f"{resolve.short(message.id)}:{message.path}: {message.error}")
                continue
            if key not in open_files:
                name = message.name or Path(message.path).name
                open_files[key] = _new_file(place, f"{message.id[-7:]}-{name.replace('/', '_')}-{stamp}")
            open_files[key][1].write(message.data)
    except RemoteError as error:
        if not open_files:
            raise explain(error) from None
        failed.add(("", ""))
        session.talk.bad(str(error))
    finally:
        for _, out in open_files.values():
            out.close()
    lacking = next((key for key in failed if key[1]), None)
    if lacking:
        session.talk.next(f"eru exec {resolve.short(lacking[0])} ls {Path(lacking[1]).parent}")
    paths = [str(path) for path, _ in open_files.values()]
    session.report(paths, lambda: "".join(f"{path}\n" for path in paths), paths)
    if not failed:
        return Exit.OK
    return Exit.PARTLY if open_files else Exit.ERROR


def _new_file(place: Path, stem: str) -> tuple[Path, BinaryIO]:
    """A file that was not there before; nothing is overwritten."""
    for attempt in range(1000):
        path = place / (f"{stem}.tar" if not attempt else f"{stem}.{attempt}.tar")
        try:
            return path, path.open("xb")
        except FileExistsError:
            continue
    raise usage(f"{place} is full of archives named {stem}")


@verb(
    "send",
    examples="""
eru workload send 3f2a --file ./app.conf:/etc/app.conf:644:0:0
eru workload send --app shop --entry web --file ./app.conf:/etc/app.conf
""",
)
@selectors
@click.option("--file", "file_", multiple=True, required=True, metavar="SRC:DST[:MODE[:UID:GID]]", help="A file.")
async def send(session: Session, file_: tuple[str, ...], **values: Any) -> int:
    """Put files into workloads."""
    packed = files.packed(file_)
    wanted = (await chosen(session, values, "send to")).ids
    asked = pb.SendOptions(IDs=wanted, data=packed.data, modes=packed.modes, owners=packed.owners)
    return await _tell(session, session.stream(rpc.Send, asked), len(wanted) * len(packed.data))


@verb("sendlarge", examples="eru workload sendlarge 3f2a 77b0 --file ./data.img:/data/data.img:600:0:0")
@selectors
@click.option("--file", "file_", multiple=True, required=True, metavar="SRC:DST[:MODE[:UID:GID]]", help="One file.")
async def sendlarge(session: Session, file_: tuple[str, ...], **values: Any) -> int:
    """Put one file of any size into workloads; it is sent in pieces and never held in memory."""
    if len(file_) != 1:
        raise usage(f"--file is given {len(file_)} times", hint="sendlarge sends exactly one file")
    parcel = files.parse(file_)[0]
    wanted = (await chosen(session, values, "send to")).ids
    size = parcel.source.stat().st_size

    async def chunks() -> AsyncIterator[pb.FileOptions]:
        with parcel.source.open("rb") as source:
            first = True
            while (chunk := source.read(CHUNK_BYTES)) or first:
                first = False
                yield pb.FileOptions(
                    ids=wanted,
                    dst=parcel.target,
                    size=size,
                    mode=pb.FileMode(mode=parcel.mode),
                    owner=pb.FileOwner(uid=parcel.uid, gid=parcel.gid),
                    chunk=chunk,
                )

    return await _tell(session, session.both(rpc.SendLargeFile, chunks()), len(wanted))


async def _tell(session: Session, answers: AsyncIterator[pb.SendMessage], expected: int) -> int:
    done, failed = 0, 0
    try:
        async for answer in answers:
            label = f"{resolve.short(answer.id)}:{answer.path}"
            if answer.error:
                failed += 1
                session.talk.bad(f"{label}: {answer.error}")
            else:
                done += 1
                session.talk.good(label)
    except RemoteError as error:
        if not done and not failed:
            raise explain(error) from None
        failed += 1
        session.talk.bad(str(error))
    if done + failed < expected:
        session.talk.bad(f"core confirmed {done + failed} of {expected} files; the rest may be missing")
        failed += 1
    if not failed:
        return Exit.OK
    session.talk.tally(done, max(done + failed, expected), "sent")
    return Exit.PARTLY if done else Exit.ERROR
