"""A real OpenSSH server on loopback, for sources that are fetched over ssh."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.docker import SBIN, free_port

START_WAIT_S = 90.0
PRIVILEGE_SEPARATION = Path("/run/sshd")  # where a server of root keeps its unprivileged part; a boot makes it


@dataclass(frozen=True)
class SshHost:
    """`key`: the private key that it lets in; any other is turned away."""

    port: int
    key: Path

    def url(self, path: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"


def make_key(path: Path) -> Path:
    """A new private key in `path`, the public one beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, capture_output=True)
    return path


@contextmanager
def ssh_host(folder: Path) -> Iterator[SshHost]:
    """Serves until the block ends. Failing to start is an error, never a skip."""
    program = shutil.which("sshd", path=os.environ.get("PATH", "") + SBIN)
    if program is None:
        raise RuntimeError(f"sshd is not installed; type: {sys.executable} scripts/prepare.py tests")
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    host = SshHost(free_port(), make_key(folder / "client"))
    shutil.copy(host.key.with_suffix(".pub"), folder / "authorized")
    settings = {
        "ListenAddress": f"127.0.0.1:{host.port}",
        "HostKey": make_key(folder / "host"),
        "PidFile": folder / "pid",
        "AuthorizedKeysFile": folder / "authorized",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
    }
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    _forget(host.port)
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(folder / "sshd_config")], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        end = time.monotonic() + START_WAIT_S
        while not _answers(host.port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"sshd does not answer: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)
        yield host
    finally:
        process.terminate()
        process.wait()
        _forget(host.port)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as probe:
            return probe.recv(4) == b"SSH-"
    except OSError:
        return False


def _forget(port: int) -> None:
    """Whatever this user's ssh remembers of a server at this port is about another one."""
    subprocess.run(["ssh-keygen", "-R", f"[127.0.0.1]:{port}"], check=False, capture_output=True)
