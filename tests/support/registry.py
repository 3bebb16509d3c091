"""A real image registry on loopback, with or without a password."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.ports import free_port

USER, PASSWORD = "tests", "open sesame"
_BCRYPT = "$2b$04$DyoBMmZiQjwYXL0CI4BK4.rHip0PMF9uv7ix1hIQ2XgRxuSBbE8cS"  # of PASSWORD
START_WAIT_S = 90.0


@contextmanager
def registry(base: Path, *, password: bool = False) -> Iterator[str]:
    """`127.0.0.1:port`, which Docker takes without TLS. Failing to start is an error, never a skip."""
    program = shutil.which("docker-registry", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise RuntimeError(f"docker-registry is not installed; type: {sys.executable} scripts/prepare.py tests")
    port = free_port()
    base.mkdir(parents=True, exist_ok=True)
    (base / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
    auth = f"auth: {{htpasswd: {{realm: tests, path: {base}/htpasswd}}}}\n" if password else ""
    (base / "config.yml").write_text(
        "version: 0.1\nlog: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: {base}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n{auth}"
    )
    with (base / "log").open("wb") as out:
        process = subprocess.Popen(
            [program, "serve", str(base / "config.yml")], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        end = time.monotonic() + START_WAIT_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"docker-registry does not answer: {(base / 'log').read_text()[-500:]}")
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=10):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
