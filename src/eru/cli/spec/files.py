"""`--file src:dst[:mode[:uid:gid]]`: files to send, strictly read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eru.cli.exits import usage

if TYPE_CHECKING:
    from eru.wire import core_pb2 as pb

MESSAGE_BYTES_MAX = 20 * 1024 * 1024  # what a core accepts in one message by default
_FORM = "src:dst[:mode[:uid:gid]], for example ./app.conf:/etc/app.conf:644:0:0"


@dataclass(frozen=True)
class Parcel:
    """One file on its way: where it is, where it goes, mode and owner (0: core decides)."""

    source: Path
    target: str
    mode: int = 0
    uid: int = 0
    gid: int = 0


def parse(items: Sequence[str]) -> list[Parcel]:
    """All `--file` values. Raises Problem for the first that is wrong."""
    return [_one(item) for item in items]


def _one(item: str) -> Parcel:
    parts = item.split(":")
    if len(parts) not in (2, 3, 5) or not all(parts[:2]):
        raise usage(f"--file {item!r} is not of the form src:dst[:mode[:uid:gid]]", hint=_FORM)
    if not parts[1].startswith("/"):
        raise usage(f"--file {item!r}: the target {parts[1]!r} is not an absolute path", hint=_FORM)
    try:
        mode = int(parts[2], 8) if len(parts) > 2 else 0
        uid, gid = (int(parts[3]), int(parts[4])) if len(parts) == 5 else (0, 0)
    except ValueError:
        raise usage(f"--file {item!r}: mode is octal, uid and gid are numbers", hint=_FORM) from None
    if not 0 <= mode <= 0o7777 or uid < 0 or gid < 0:
        raise usage(f"--file {item!r}: mode, uid or gid is out of range", hint=_FORM)
    source = Path(parts[0])
    if not source.exists():
        raise usage(f"--file {item!r}: there is no file {source}")
    if not source.is_file():
        raise usage(f"--file {item!r}: {source} is not a plain file", hint="send files one by one, or a tar archive")
    return Parcel(source, parts[1], mode, uid, gid)


@dataclass
class Packed:
    """The three maps of a message, keyed by target path."""

    data: dict[str, bytes]
    modes: dict[str, pb.FileMode]
    owners: dict[str, pb.FileOwner]


def packed(items: Sequence[str]) -> Packed:
    """Contents, modes and owners of all `--file` values, together small enough for one message."""
    from eru.wire import core_pb2 as pb

    made = Packed({}, {}, {})
    total = 0
    for parcel in parse(items):
        if parcel.target in made.data:
            raise usage(f"--file: two files go to {parcel.target}")
        total += parcel.source.stat().st_size
        if total > MESSAGE_BYTES_MAX:
            raise usage(
                f"--file: together the files have more than {MESSAGE_BYTES_MAX} bytes",
                hint="deploy first, then `eru workload sendlarge`",
            )
        try:
            made.data[parcel.target] = parcel.source.read_bytes()
        except OSError as error:
            raise usage(f"--file {parcel.source}: {error.strerror}") from None
        made.modes[parcel.target] = pb.FileMode(mode=parcel.mode)
        made.owners[parcel.target] = pb.FileOwner(uid=parcel.uid, gid=parcel.gid)
    return made
