"""This machine: Docker and the disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket

from eru.cli.cluster.checks.finding import Finding

SLOW_DOCKER_S = 5.0
DISK_FREE_MIN = 0.05


async def docker(path: str) -> list[Finding]:
    """Whether the engine of this machine answers; a machine without one may still be a client."""
    try:
        async with asyncio.timeout(SLOW_DOCKER_S):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            answer = await reader.readline()
            writer.close()
    except FileNotFoundError:
        return [Finding("warn", f"no Docker socket at {path}", "apt-get install docker.io, if this machine is a node")]
    except PermissionError:
        cure = "run as root, or: usermod -aG docker $USER, then log in again"
        return [Finding("bad", f"no permission on {path}", cure)]
    except TimeoutError:
        return [Finding("bad", f"Docker does not answer at {path} within {SLOW_DOCKER_S:g}s", "restart dockerd")]
    except OSError as error:
        return [Finding("bad", f"Docker at {path}: {error.strerror or error}", "start it: service docker start")]
    if b" 200 " not in answer:
        said = answer.decode("latin-1").strip()
        return [Finding("bad", f"Docker at {path} answers {said!r}", "see the log of dockerd")]
    return [Finding("ok", f"Docker answers at {path}")]


async def disk() -> list[Finding]:
    """Room where images and containers are kept."""
    return await asyncio.to_thread(_disk)  # a network file system may be slow


def _disk() -> list[Finding]:
    place = "/var/lib/docker" if os.path.isdir("/var/lib/docker") else "/"
    usage = shutil.disk_usage(place)
    free = usage.free / usage.total
    if free < DISK_FREE_MIN:
        cure = "docker system prune, or a larger disk"
        return [Finding("warn", f"disk of {place} is {1 - free:.0%} full on {socket.gethostname()}", cure)]
    return [Finding("ok", f"disk of {place} has {free:.0%} free")]
