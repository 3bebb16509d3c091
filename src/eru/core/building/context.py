"""The build context: a directory with sources and Dockerfile, and its tar as a stream."""

from __future__ import annotations

import asyncio
import tarfile
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from eru.core.building.dockerfile import dockerfile, repo_name
from eru.core.building.sources import GitSettings, fetch_sources
from eru.model.builds import BuildSpec
from eru.model.errors import InvalidInput

CHUNK_BYTES = 256 * 1024


@asynccontextmanager
async def build_context(spec: BuildSpec, git: GitSettings) -> AsyncIterator[AsyncIterator[bytes]]:
    """The tar of a generated context, on disk while the block lasts. Raises InvalidInput, Refused."""
    text = dockerfile(spec)
    with tempfile.TemporaryDirectory(prefix="eru-build-") as place:
        directory = _begin(Path(place, "context"), text)
        fetched: dict[str, tuple[str, str]] = {}
        for name in spec.order:
            stage = spec.stages.get(name)
            if stage is None or not stage.repo:
                continue
            folder = repo_name(stage.repo)
            wanted = (stage.repo, stage.version)
            if folder in ("", ".", "..", "Dockerfile"):
                raise InvalidInput(f"repository {stage.repo[:200]!r} has no name of its own")
            if fetched.setdefault(folder, wanted) != wanted:
                raise InvalidInput(f"stages take different sources for {folder!r}: {fetched[folder]} and {wanted}")
            if not (directory / folder).exists():
                await fetch_sources(stage, directory / folder, git)
        archive = Path(place, "context.tar")
        await asyncio.to_thread(_pack, directory, archive)
        yield _chunks(archive)


def _begin(directory: Path, text: str) -> Path:
    directory.mkdir()
    (directory / "Dockerfile").write_text(text)
    return directory


def _pack(directory: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as tar:
        for path in sorted(directory.iterdir()):
            tar.add(path, path.name)


async def _chunks(archive: Path) -> AsyncIterator[bytes]:
    with archive.open("rb") as opened:
        while data := await asyncio.to_thread(opened.read, CHUNK_BYTES):
            yield data
