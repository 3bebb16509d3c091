"""Sources for a build: git repositories and artifact archives, put into a directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import ssl
import zipfile
from pathlib import Path

import aiohttp
import msgspec

from eru.model.builds import Stage
from eru.model.errors import InvalidInput, NotSupported, Refused

URL_FORMS = ("git@", "gitlab@", "https://", "ssh://")
ARTIFACT_BYTES_MAX = 2 << 30
UNPACKED_BYTES_MAX = 8 << 30
GIT_OUTPUT_BYTES_MAX = 4096  # of its complaint, for the error
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./@{}^~\-]*")


class GitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`scm_type`: github or gitlab, decides how `token` is sent. `private_key`: a file, for ssh."""

    scm_type: str = ""
    private_key: str = ""
    token: str = ""
    clone_timeout_s: float = 300.0
    protocols: tuple[str, ...] = ("https", "ssh")

    def __repr__(self) -> str:
        return f"GitSettings({self.scm_type}, ***)"


async def fetch_sources(stage: Stage, into: Path, git: GitSettings) -> None:
    """Clone the stage's repository to `into`; artifacts, if any, replace what was cloned.

    Raises InvalidInput for a URL that is not one, Refused with git's own words.
    """
    check_url(stage.repo)
    version = stage.version or "HEAD"
    if not _VERSION.fullmatch(version):
        raise InvalidInput(f"version {version[:64]!r} is not a git revision")
    await _git(git, "clone", "--quiet", "--no-checkout", "--", stage.repo, str(into))
    await _git(git, "-C", str(into), "checkout", "--quiet", "--detach", version)
    if stage.submodule:
        await _git(git, "-C", str(into), "submodule", "--quiet", "update", "--init", "--recursive")
    if stage.security:
        await asyncio.to_thread(_forget_history, into)
    if stage.artifacts:
        await asyncio.to_thread(_empty, into)
        for url in stage.artifacts.values():
            await _artifact(url, into, git)


def check_url(url: str) -> None:
    """Raises InvalidInput."""
    if not url.endswith(".git") or url.startswith("-") or not any(form in url for form in URL_FORMS):
        raise InvalidInput(f"repository {url[:200]!r} must be a git@, ssh:// or https:// address that ends in .git")


async def _git(settings: GitSettings, *arguments: str) -> None:
    program = shutil.which("git")
    if program is None:
        raise NotSupported("git is not installed where this core runs, so sources cannot be fetched: install git")
    ssh = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
    if settings.private_key:
        ssh += f" -o IdentitiesOnly=yes -i '{settings.private_key}'"
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # with what it starts: ssh or git's own helper may be what hangs
        env={
            **os.environ,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": ssh,
            "GIT_ALLOW_PROTOCOL": ":".join(settings.protocols),
        },
    )
    try:
        async with asyncio.timeout(settings.clone_timeout_s):
            _, said = await process.communicate()
    except TimeoutError:
        raise Refused(
            f"git {arguments[0]} took longer than {settings.clone_timeout_s:g} s (git.clone_timeout)"
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode != 0:
        text = " ".join(said[-GIT_OUTPUT_BYTES_MAX:].decode(errors="replace").split())
        raise Refused(f"git failed: {text or f'exit code {process.returncode}'}")


async def _artifact(url: str, into: Path, git: GitSettings) -> None:
    """Download and unpack one zip file."""
    headers = {}
    if git.token:
        headers = {"Authorization": f"token {git.token}"} if git.scm_type == "github" else {"PRIVATE-TOKEN": git.token}
    archive = into.parent / f"{into.name}.artifact.zip"
    timeout = aiohttp.ClientTimeout(total=git.clone_timeout_s)
    try:
        trusted = await asyncio.to_thread(ssl.create_default_context)  # as the environment says now
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers, ssl=trusted) as answer,
        ):
            if answer.status != 200:
                raise Refused(f"artifact {url} cannot be had: the server answered {answer.status}")
            size = 0
            with archive.open("wb") as out:
                async for chunk in answer.content.iter_chunked(1 << 20):
                    size += len(chunk)
                    if size > ARTIFACT_BYTES_MAX:
                        raise Refused(f"artifact {url} has more than {ARTIFACT_BYTES_MAX} bytes")
                    await asyncio.to_thread(out.write, chunk)
        await asyncio.to_thread(_unpack, archive, into)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Refused(f"artifact {url} cannot be had: {error}") from error
    except zipfile.BadZipFile as error:
        raise Refused(f"artifact {url} is not a zip file") from error
    finally:
        archive.unlink(missing_ok=True)


def _unpack(archive: Path, into: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        if sum(entry.file_size for entry in opened.infolist()) > UNPACKED_BYTES_MAX:
            raise Refused(f"the artifact unpacks to more than {UNPACKED_BYTES_MAX} bytes")
        for entry in opened.infolist():
            path = Path(opened.extract(entry, into))
            if mode := entry.external_attr >> 16 & 0o777:
                path.chmod(mode)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _forget_history(directory: Path) -> None:
    for history in [*directory.rglob(".git")]:
        _delete(history)


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        _delete(path)
