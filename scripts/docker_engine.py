"""A Docker Engine that answers: found, or installed and started without systemd."""

from __future__ import annotations

import errno
import grp
import http.client
import io
import os
import shutil
import socket
import subprocess
import tarfile
import time
from pathlib import Path

from packages import Missing, install, installed_here, static_busybox, where

DEFAULT_SOCKET = "/var/run/docker.sock"
TEST_IMAGE = "bb"
START_WAIT_S = 60
ANSWER_WAIT_S = 5
HANG_WAIT_S = 20


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("docker", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def socket_path() -> str:
    """Where the engine listens: DOCKER_HOST if it names a Unix socket, else the usual place."""
    host = os.environ.get("DOCKER_HOST", "")
    return host.removeprefix("unix://") if host.startswith("unix://") else DEFAULT_SOCKET


def ensure(state: Path, answer_wait_s: float = ANSWER_WAIT_S, hang_wait_s: float = HANG_WAIT_S) -> str:
    """Find a working engine or make one; what was done."""
    path = socket_path()
    if _answers(path, answer_wait_s):
        return f"answers on {path}"
    if _listens(path):  # starting, or hanging: a second one would take its socket away
        if _wait(path, hang_wait_s, answer_wait_s=answer_wait_s):
            return f"answers on {path}"
        raise Missing(f"something listens on {path} and does not answer; if it is a Docker Engine, restart it")
    if where("dockerd") is None:
        install(["docker.io"], why="no Docker Engine answers and none is installed")
        if _wait(path, 5):  # the package starts it where systemd runs
            return f"installed, answers on {path}"
    if os.geteuid() != 0:
        raise Missing(f"no Docker Engine answers on {path}; start it: sudo systemctl start docker (or: sudo dockerd &)")
    _start(path, state / "docker")
    return f"started, answers on {path}"


def ensure_test_image() -> None:
    """An image of busybox under the name `bb`, made here: no registry is needed."""
    path = socket_path()
    if _request(path, "GET", f"/images/{TEST_IMAGE}/json")[0] == 200:
        return
    busybox = static_busybox()
    if busybox is None:
        raise Missing("no static busybox is installed; type: sudo apt-get install busybox-static")
    status, text = _request(path, "POST", f"/images/create?fromSrc=-&repo={TEST_IMAGE}", _busybox_root(busybox))
    if status != 200:
        raise Missing(f"the Docker Engine refused the test image ({status}): {text}")


def _busybox_root(busybox: str) -> bytes:
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        for name in ("bin", "etc", "root", "tmp", "var", "www"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        program = tarfile.TarInfo("bin/busybox")
        data = Path(busybox).read_bytes()
        program.size, program.mode = len(data), 0o755
        tar.addfile(program, io.BytesIO(data))
        for applet in applets:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if applet != "busybox":
                tar.addfile(link)
        users = b"root:x:0:0:root:/root:/bin/sh\n"
        passwd = tarfile.TarInfo("etc/passwd")
        passwd.size = len(users)
        tar.addfile(passwd, io.BytesIO(users))
    return memory.getvalue()


def _answers(path: str, wait_s: float = ANSWER_WAIT_S) -> bool:
    """Whether an engine answers; `Missing` when it is there but not for this user."""
    try:
        return _request(path, "GET", "/_ping", timeout_s=wait_s)[0] == 200
    except PermissionError:
        raise Missing(_no_permission(path)) from None
    except (OSError, http.client.HTTPException):
        return False


def _listens(path: str) -> bool:
    """Whether there is a process behind the socket, be it silent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_WAIT_S)
        return probe.connect_ex(path) in (0, errno.EAGAIN)


def _no_permission(path: str) -> str:
    user = os.environ.get("USER") or f"user {os.geteuid()}"
    group = grp.getgrgid(os.stat(path).st_gid).gr_name
    return (
        f"{user} may not use {path}, it belongs to group {group}; "
        f"type: sudo usermod -aG {group} {user}   and log in again"
    )


def _request(path: str, method: str, url: str, body: bytes = b"", timeout_s: float = 60) -> tuple[int, str]:
    connection = _UnixConnection(path, timeout_s)
    try:
        connection.request(method, url, body, {"Content-Type": "application/x-tar"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace").strip()
    finally:
        connection.close()


def _start(path: str, place: Path) -> None:
    """dockerd as a daemon of its own session; its pid file lets `eru down --purge` stop it again."""
    dockerd = where("dockerd")
    if dockerd is None:
        raise Missing("docker.io is installed, but there is no dockerd; type: apt-get install --reinstall docker.io")
    _mount_cgroups()
    place.mkdir(parents=True, exist_ok=True)
    log = place / "dockerd.log"
    arguments = [dockerd, "--log-level", "warn", "--host", f"unix://{path}", "--pidfile", str(place / "dockerd.pid")]
    with log.open("ab") as out:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
        )
    if not _wait(path, START_WAIT_S, process):
        tail = log.read_text(errors="replace").strip().splitlines()[-1:] or ["(empty log)"]
        raise Missing(f"dockerd was started but does not answer on {path}; last line of {log}: {tail[0]}")


def _mount_cgroups() -> None:
    """Without systemd nobody may have mounted them yet, and no container starts without."""
    if Path("/sys/fs/cgroup/cgroup.controllers").exists() or Path("/sys/fs/cgroup/memory").exists():
        return
    if not installed_here("cgroupfs-mount"):
        install(["cgroupfs-mount"], why="no control groups are mounted")
    subprocess.run([shutil.which("cgroupfs-mount") or "cgroupfs-mount"], stdin=subprocess.DEVNULL, check=False)


def _wait(
    path: str,
    seconds: float,
    process: subprocess.Popen[bytes] | None = None,
    answer_wait_s: float = ANSWER_WAIT_S,
) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if _answers(path, answer_wait_s):
            return True
        if process is not None and process.poll() is not None:
            return False
        time.sleep(0.2)
    return False
