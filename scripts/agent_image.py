#!/usr/bin/env python3
"""Makes the agent's image out of what is on this machine: no registry, no package index.

    agent_image.py [--tag NAME:VERSION] [--engine unix:///path] [--out FILE.tar]

In it: this Python with its library and the shared objects all that needs, the
locked packages of the virtual environment, Eru itself and an empty /tmp. The
image runs where this machine's C library does: the same kind of processor, any
distribution. With `--out` the tar is written instead of being imported.

Run it with the Python of the virtual environment (`make agent-image` does).
"""

from __future__ import annotations

import argparse
import http.client
import importlib.metadata
import io
import os
import re
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).resolve().parent.parent
HOME = "usr/local"  # of the interpreter in the image
VENV = "opt/eru"  # as in docs/install.md
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# Parts of the standard library that no server needs, and what a distribution keeps beside it.
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages",
            "dist-packages", "pydoc_data", "__pycache__"}  # fmt: skip
NO_EXTENSIONS = ("_tkinter", "_test", "_xx", "_ctypes_test", "nis.")  # they would bring a window system along
PROGRAMS = {"eru": "main", "eru-core": "core_main", "eru-agent": "agent_main", "eru-cli": "cli_main"}
SETTINGS = [
    f"ENV PATH=/{VENV}/bin:/{HOME}/bin:/usr/bin:/bin",
    "ENV AGENT_IN_DOCKER=1",
    "LABEL org.opencontainers.image.title=eru-agent",
    'CMD ["eru-agent", "--config", "/etc/eru/agent.yaml"]',
]


class Refused(Exception):
    """The image cannot be made; says why and what to do."""


class ImageTar:
    """A root file system as a tar; every path once, owned by root."""

    def __init__(self, target: io.BufferedIOBase) -> None:
        self._tar = tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115 - closed by close
        self._names: set[str] = set()
        self.objects: set[Path] = set()  # shared objects put in, whose own needs are asked later

    def folder(self, name: str, mode: int = 0o755) -> None:
        if name and name not in self._names:
            self.folder(os.path.dirname(name))
            self._add(name, kind=tarfile.DIRTYPE, mode=mode)

    def text(self, name: str, text: str, mode: int = 0o644) -> None:
        self.folder(os.path.dirname(name))
        self._add(name, text.encode(), mode=mode)

    def link(self, name: str, target: str) -> None:
        self.folder(os.path.dirname(name))
        self._add(name, kind=tarfile.SYMTYPE, target=target)

    def file(self, source: Path, name: str) -> None:
        """A copy of what `source` is or points to; bytecode stays valid, because times are kept."""
        if name in self._names:
            return
        self.folder(os.path.dirname(name))
        state = source.stat()
        mode = 0o755 if state.st_mode & 0o100 else 0o644
        self._add(name, source.read_bytes(), mode=mode, when=int(state.st_mtime))
        if ".so" in source.name:
            self.objects.add(source)

    def tree(self, source: Path, name: str) -> None:
        """All of a package, its bytecode for this Python included."""
        for folder, folders, files in os.walk(source):
            folders.sort()
            here = name + folder[len(str(source)) :]
            if os.path.basename(folder) == "__pycache__":
                files = [file for file in files if f".{sys.implementation.cache_tag}." in file]
            for file in sorted(files):
                self.file(Path(folder, file), f"{here}/{file}")

    def close(self) -> None:
        self._tar.close()

    def _add(
        self, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, mode: int = 0o755, target: str = "",
        when: int = 0,
    ) -> None:  # fmt: skip
        self._names.add(name)
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.linkname, entry.size, entry.mtime = kind, mode, target, len(data), when
        self._tar.addfile(entry, io.BytesIO(data))


def build(target: io.BufferedIOBase) -> None:
    """Write the image's root file system as a tar."""
    if sys.prefix == sys.base_prefix:
        raise Refused(f"{sys.executable} is not the virtual environment's Python; type: make agent-image")
    tar = ImageTar(target)
    _interpreter(tar)
    _packages(tar)
    _shared_objects(tar)
    tar.folder("tmp", 0o1777)
    tar.folder("etc/eru")
    for folder in ("proc", "sys", "dev", "run", "var/lib/eru/agent"):
        tar.folder(folder)
    tar.link("var/run", "/run")
    tar.text("etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\n")
    tar.text("etc/group", "root:x:0:\n")
    tar.text("etc/nsswitch.conf", "hosts: files dns\n")
    tar.close()


def _interpreter(tar: ImageTar) -> None:
    tar.file(Path(sys.base_prefix, "bin", PYTHON), f"{HOME}/bin/{PYTHON}")
    tar.link(f"{HOME}/bin/python3", PYTHON)
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
    for folder, folders, files in os.walk(library):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT and not name.startswith("config-"))
        here = f"{HOME}/lib/{PYTHON}" + folder[len(str(library)) :]
        for file in sorted(files):
            if not file.endswith((".a", ".pyc")) and not file.startswith(NO_EXTENSIONS):
                tar.file(Path(folder, file), f"{here}/{file}")
        cache = Path(folder, "__pycache__")
        for file in sorted(cache.glob(f"*.{sys.implementation.cache_tag}.pyc")):
            tar.file(file, f"{here}/__pycache__/{file.name}")


def _packages(tar: ImageTar) -> None:
    """The virtual environment, without what only tests and tools need."""
    site = f"{VENV}/lib/{PYTHON}/site-packages"
    for name in locked():
        installed = importlib.metadata.distribution(name)
        for file in installed.files or []:
            parts = file.parts
            if ".." not in parts and "tests" not in parts[:-1] and file.locate().is_file():
                tar.file(Path(str(file.locate())), f"{site}/{file}")
    tar.tree(HERE / "src" / "eru", f"{site}/eru")
    tar.text(f"{VENV}/pyvenv.cfg", f"home = /{HOME}/bin\ninclude-system-site-packages = false\n")
    tar.link(f"{VENV}/bin/python", f"/{HOME}/bin/{PYTHON}")
    for program, function in PROGRAMS.items():
        text = f"#!/{VENV}/bin/python\nimport sys\n\nfrom eru.__main__ import {function}\n\nsys.exit({function}())\n"
        tar.text(f"{VENV}/bin/{program}", text, 0o755)
        tar.link(f"usr/bin/{program}", f"/{VENV}/bin/{program}")


def locked() -> list[str]:
    """Names in requirements/runtime.txt that this environment has."""
    lines = (HERE / "requirements" / "runtime.txt").read_text().splitlines()
    names = sorted({found[1] for line in lines if (found := re.match(r"([a-z0-9-]+)==", line))})
    missing = [name for name in names if not _installed(name)]
    if missing:
        raise Refused(f"{', '.join(missing)} of requirements/runtime.txt is not installed; type: make agent-image")
    return names


def _installed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def _shared_objects(tar: ImageTar) -> None:
    """What interpreter and extensions are linked with, where the loader looks without being told."""
    program = Path(sys.base_prefix, "bin", PYTHON)
    needed: set[Path] = set()
    loader = Path()
    for name, path in _linked([program, *sorted(tar.objects)]):
        if name.startswith("/"):
            loader = path
        elif not path.is_relative_to(sys.prefix):  # wheels bring their own beside them
            needed.add(path)
    libc = next((path for path in needed if path.name.startswith("libc.so")), None)
    if libc is None:
        raise Refused(f"ldd names no C library of {program}: only a dynamically linked Python can be packed")
    # Names are looked up by objects that nothing is linked with.
    needed |= {path for pattern in ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")
               for path in libc.parent.glob(pattern)}  # fmt: skip
    tar.file(loader, str(loader).lstrip("/"))
    for path in sorted(needed):
        tar.file(path, f"{libc.parent}/{path.name}".lstrip("/"))


def _linked(objects: list[Path]) -> Iterator[tuple[str, Path]]:
    out = subprocess.run(["ldd", *map(str, objects)], capture_output=True, text=True, check=False).stdout
    for line in out.splitlines():
        if found := re.match(r"\s+(\S+)(?: => (/\S+))? \(0x", line):
            name, path = found[1], found[2] or found[1]
            if path.startswith("/"):
                yield name, Path(path)


def version() -> str:
    """Eru's, read without importing it."""
    text = (HERE / "src" / "eru" / "__init__.py").read_text()
    found = re.search(r'__version__ = "([^"]+)"', text)
    return found[1] if found else "latest"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def imported(engine: str, tag: str, tar: io.BufferedIOBase, size: int) -> None:
    """Hand the tar to an engine as image `tag`."""
    if not engine.startswith("unix://"):
        raise Refused(f"--engine {engine!r} is no unix:///path; write the tar with --out and `docker import` it there")
    changes = "".join(f"&changes={quote(change)}" for change in SETTINGS)
    name, _, label = tag.rpartition(":")
    connection = _UnixConnection(engine.removeprefix("unix://"))
    headers = {"Content-Type": "application/x-tar", "Content-Length": str(size)}
    try:
        connection.request(
            "POST", f"/images/create?fromSrc=-&repo={quote(name)}&tag={quote(label)}{changes}", tar, headers
        )
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace").strip()
    except OSError as error:
        raise Refused(f"engine {engine} does not take the image: {error}") from error
    finally:
        connection.close()
    if answer.status != 200 or '"error"' in said:
        raise Refused(f"engine {engine} refused the image: {said}")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description="The agent's image, from this machine's own Python.")
    parser.add_argument("--tag", default=f"eru-agent:{version()}")
    parser.add_argument("--engine", default=os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    parser.add_argument("--out", help="write a tar for `docker import` instead")
    asked = parser.parse_args(words)
    tag = asked.tag if ":" in asked.tag.rpartition("/")[2] else f"{asked.tag}:{version()}"
    began = time.monotonic()
    try:
        if asked.out:
            with open(asked.out, "wb") as file:
                build(file)
                size = file.tell()
            told = " ".join(f"--change '{change}'" for change in SETTINGS)
            print(f"docker import {told} {asked.out} {tag}")
        else:
            with tempfile.TemporaryFile() as file:
                build(file)
                size = file.tell()
                file.seek(0)
                imported(asked.engine, tag, file, size)
            print(f"image {tag}, {size / 1e6:.0f} MB, made in {time.monotonic() - began:.1f} s")
    except Refused as refused:
        print(f"agent image: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
