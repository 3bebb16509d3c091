"""Reads single files out of tar streams in memory, with a bound."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator

from eru.model.deploy import FileToSend
from eru.model.errors import EngineRefused, InvalidInput

_TAR_OVERHEAD_MAX = 1 << 20  # bytes of headers and padding around one file


async def first_file(chunks: AsyncIterator[bytes], source: str, target: str, most: int) -> FileToSend:
    """The first regular file of a tar stream, to be put at `target`.

    Raises InvalidInput when it has more than `most` bytes, EngineRefused when there is none.
    """
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        if len(data) > most + _TAR_OVERHEAD_MAX:
            raise InvalidInput(f"{source} has more than {most} bytes, too many to be carried over")
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                found = archive.extractfile(member) if member.isfile() else None
                if found is not None:
                    return FileToSend(
                        path=target, content=found.read(), mode=member.mode, uid=member.uid, gid=member.gid
                    )
    except tarfile.TarError as error:
        raise EngineRefused(f"what the engine sent for {source} is no archive: {error}") from error
    raise EngineRefused(f"{source} holds no file to carry over")
