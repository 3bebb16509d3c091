"""A web server image made on the spot: static busybox and a script, no registry asked."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

from eru.engine.contract import Engine
from eru.model.errors import EngineRefused, InvalidInput

# A registry on this machine that does not exist: nobody on the internet can own the name.
IMAGE = "localhost/eru-demo-web"
_CHUNK_BYTES = 64 * 1024
_APPLETS = ("cat", "date", "env", "hostname", "httpd", "ls", "ps", "sh", "sleep", "top", "wget")

_DOCKERFILE = b"FROM scratch\nCOPY root /\n"
_SERVE = b"""#!/bin/sh
# Writes the page of this instance and serves it on port $1.
mkdir -p /www
cat > /www/index.html <<EOT
<!doctype html><title>Eru demo</title>
<h1>Hello from instance $ERU_WORKLOAD_SEQ of $APP_NAME</h1>
<p>on node $ERU_NODE_NAME, container $(hostname)</p>
EOT
echo "instance $ERU_WORKLOAD_SEQ serves on port $1"
exec httpd -f -vv -p "$1" -h /www
"""


async def ensure_demo_image(engine: Engine) -> bool:
    """Build the image unless the engine has it. True when it was built. Raises EruError."""
    if await engine.local_digests(IMAGE):
        return False
    context = build_context(find_busybox())

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(context), _CHUNK_BYTES):
            yield context[start : start + _CHUNK_BYTES]

    async for progress in engine.build(chunks(), [f"{IMAGE}:latest"]):
        if progress.error:
            raise EngineRefused(f"the demo image could not be built: {progress.error}")
    return True


def find_busybox() -> Path:
    """The static busybox of this machine. Raises InvalidInput with what to type."""
    found = shutil.which("busybox", path=os.environ.get("PATH", "") + ":/bin:/usr/bin:/sbin")
    # A program that needs the dynamic loader names it near its beginning; alone in an image it could not start.
    if found is None or b"/ld-" in Path(found).read_bytes()[:4096]:
        raise InvalidInput("the demo image is made of a static busybox; type: sudo apt-get install busybox-static")
    return Path(found)


def build_context(busybox: Path) -> bytes:
    """A tar with a Dockerfile and the root directory of the image."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        _add(tar, "Dockerfile", _DOCKERFILE, 0o644)
        _add(tar, "root/bin/busybox", busybox.read_bytes(), 0o755)
        _add(tar, "root/bin/serve", _SERVE, 0o755)
        for applet in (*_APPLETS, "mkdir", "echo"):
            link = tarfile.TarInfo(f"root/bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return memory.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))
