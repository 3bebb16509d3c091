"""What several suites share: a real Docker Engine, a real etcd, free ports.

Nothing is skipped: a suite that needs Docker or etcd fails with the reason
when it cannot be had.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
SBIN = ":/usr/local/sbin:/usr/sbin:/sbin"
DAEMON_WAIT_S = 90


# The same examples in every run, and no limit of time: a run says something about the change, and nothing about the
# machine. `pytest --hypothesis-profile=explore` tries others.
_CALM = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("calm", derandomize=True, **_CALM)
settings.register_profile("explore", derandomize=False, **_CALM)
settings.load_profile("calm")


def program(name: str) -> str:
    """The path of a daemon. Its absence is a failure."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + SBIN)
    if path is None:
        pytest.fail(f"{name} is not installed; type: {sys.executable} scripts/prepare.py tests", pytrace=False)
    return path


def wait_for_http(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until `url` answers at all; a failure with the log's end when the daemon dies or stays silent."""
    end = time.monotonic() + DAEMON_WAIT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    process.kill()
    process.wait()
    pytest.fail(f"{process.args!r} does not answer on {url}:\n{tail}", pytrace=False)


@pytest.fixture(scope="session")
def docker_endpoint() -> str:
    """The machine's Docker Engine, with the test image `bb` (static busybox) in it."""
    for step in ("docker", "tests"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "prepare.py"), step],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"no Docker Engine for the tests: {done.stderr.strip()}", pytrace=False)
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


@pytest.fixture(scope="session")
def etcd_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of an etcd of our own, for the whole run."""
    folder = tmp_path_factory.mktemp("etcd")
    client, peer = free_port(), free_port()
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                program("etcd"),
                *("--data-dir", str(folder / "data"), "--name", "tests"),
                *("--listen-client-urls", f"http://127.0.0.1:{client}"),
                *("--advertise-client-urls", f"http://127.0.0.1:{client}"),
                *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
                *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
                *("--initial-cluster", f"tests=http://127.0.0.1:{peer}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "ETCD_UNSUPPORTED_ARCH": os.uname().machine.replace("aarch64", "arm64")},
        )
    wait_for_http(f"http://127.0.0.1:{client}/health", process, log)
    yield f"127.0.0.1:{client}"
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
