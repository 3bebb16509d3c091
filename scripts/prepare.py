#!/usr/bin/env python3
"""Makes a machine ready, before anything of Eru is installed: standard library only.

    prepare.py venv     the virtual environment, from the locked requirements
    prepare.py docker   a Docker Engine that answers
    prepare.py demo     what the demo image is made of (a static busybox)
    prepare.py tests    what the tests need beside Docker (etcd, a registry, a syslog daemon, busybox)

Each step finds out first whether there is anything to do. As root on Debian or
Ubuntu it installs what is missing; anywhere else it says what to type and ends
with code 1.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import docker_engine
from packages import Missing, install, installed_here, static_busybox

HERE = Path(__file__).resolve().parent.parent
VENV = HERE / ".venv"
STAMP = VENV / ".prepared"
INPUTS = ("requirements/runtime.txt", "requirements/dev.txt", "pyproject.toml")

# command that shows it is there -> Debian package
TEST_TOOLS = {
    "etcd": "etcd-server",
    "etcdctl": "etcd-client",
    "docker-registry": "docker-registry",
    "rsyslogd": "rsyslog",
    "prometheus": "prometheus",
    "journalctl": "systemd",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "iptables": "iptables",
    "tmux": "tmux",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
}


def make_venv() -> str:
    """Create or refresh `.venv`; nothing to do when it is newer than what it is made from."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this script is the first thing an old Python meets
        raise Missing(f"Python {sys.version.split()[0]} is too old, 3.11 or newer is needed: make PYTHON=python3.11")
    python = VENV / "bin" / "python"
    if python.exists() and STAMP.exists() and all(_older(HERE / name, STAMP) for name in INPUTS):
        _compile(python)
        return "already complete"
    if not (VENV / "bin" / "pip").exists():
        _create_venv()
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--no-input"]
    if STAMP.exists():
        pip.append("--quiet")  # only what changed is of interest
    requirements = str(HERE / "requirements" / "dev.txt")
    _run(
        [*pip, "--require-hashes", "--only-binary", ":all:", "-r", requirements],
        cure="packages come from the index that pip knows (PIP_INDEX_URL, PIP_FIND_LINKS): can it be reached?",
    )
    _run([*pip, "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(HERE)])
    _compile(python)
    STAMP.touch()
    return "created"


def ensure_docker() -> str:
    """A Docker Engine that answers on its socket."""
    return docker_engine.ensure(state_dir())


def ensure_demo_tools() -> str:
    """busybox, linked statically: the whole content of the demo image."""
    if static_busybox():
        return "already there"
    install(["busybox-static"], why="the demo image is made of it")
    return "installed"


def ensure_test_tools() -> str:
    """etcd and what else the tests start by themselves, and the image they run."""
    missing = {package for command, package in TEST_TOOLS.items() if not installed_here(command)}
    if not static_busybox():
        missing.add("busybox-static")
    if missing:
        install(sorted(missing), why="the tests start them by themselves")
    docker_engine.ensure_test_image()
    return f"installed {', '.join(sorted(missing))}" if missing else "already there"


def state_dir() -> Path:
    """Where `eru up` keeps its files (the same rule as in eru.roots.state)."""
    if explicit := os.environ.get("ERU_STATE"):
        return Path(explicit)
    if os.geteuid() == 0:
        return Path("/var/lib/eru")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "eru"


def _create_venv() -> None:
    command = [sys.executable, "-m", "venv", str(VENV)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        install(["python3-venv", f"python{version}-venv"], why="Debian splits venv from Python")
        _run([*command, "--clear"])


def _compile(python: Path) -> None:
    """Bytecode, so that the first command is not three times slower than the next ones."""
    _run([str(python), "-m", "compileall", "-q", str(HERE / "src")])


def _older(source: Path, stamp: Path) -> bool:
    return source.stat().st_mtime <= stamp.stat().st_mtime


def _run(command: list[str], cure: str = "") -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise Missing(f"this failed with code {done.returncode}: {shlex.join(command)}" + (f"\n{cure}" if cure else ""))


STEPS: dict[str, tuple[str, Callable[[], str]]] = {
    "venv": ("Python environment", make_venv),
    "docker": ("Docker Engine", ensure_docker),
    "demo": ("demo tools", ensure_demo_tools),
    "tests": ("test tools", ensure_test_tools),
}


def main(names: list[str]) -> int:
    """Run the named steps, each with its outcome and how long it took."""
    if not names or any(name not in STEPS for name in names):
        print(__doc__, file=sys.stderr)
        return 2
    for name in names:
        title, step = STEPS[name]
        print(f"==> {title}", flush=True)
        began = time.monotonic()
        try:
            outcome = step()
        except Missing as missing:
            print(f"{title}: {missing}", file=sys.stderr)
            return 1
        except PermissionError as error:
            print(f"{title}: {error.filename} belongs to somebody else; use a clone of your own", file=sys.stderr)
            return 1
        print(f"==> {title}: {outcome} ({time.monotonic() - began:.1f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
