"""Extra Docker daemons on this machine, so that one machine is several nodes.

Each has its own data root, socket and containerd, and listens on a Unix
socket and on TLS with a certificate authority of its own. They share the
machine's network, and have each a bridge of their own without any address
translation: containers there mostly use the networks `none` and `host`.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from eru.engine.contract import EngineLimits
from eru.model.nodes import NodeTLS
from support.ports import free_port

START_WAIT_S = 90.0
STOP_WAIT_S = 60.0
NOFILE = 65535
SBIN = ":/usr/local/sbin:/usr/sbin:/sbin"


def limits_here(**more: object) -> EngineLimits:
    """Engine defaults that this machine's Docker accepts."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    nofile = NOFILE if hard == resource.RLIM_INFINITY else min(NOFILE, hard)
    return EngineLimits(nofile_soft=nofile, nofile_hard=nofile, **more)  # type: ignore[arg-type]


@dataclass
class Certificates:
    """One authority, a server certificate for loopback and a client's, as PEM texts."""

    ca: str
    server_cert: str
    server_key: str
    client: NodeTLS


def make_certificates(*names: str) -> Certificates:
    """`names`: what the server's certificate is for (default: loopback)."""
    authority = trustme.CA()
    server = authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
    client = authority.issue_cert("client@tests")
    ca = authority.cert_pem.bytes().decode()
    chain = b"".join(part.bytes() for part in client.cert_chain_pems).decode()
    return Certificates(
        ca=ca,
        server_cert=b"".join(part.bytes() for part in server.cert_chain_pems).decode(),
        server_key=server.private_key_pem.bytes().decode(),
        client=NodeTLS(ca=ca, cert=chain, key=client.private_key_pem.bytes().decode()),
    )


class ExtraDocker:
    """A dockerd of our own. `kill` and `start` again are allowed: containers live on."""

    def __init__(self, base: Path, certificates: Certificates | None = None) -> None:
        self.base = base
        self.certificates = certificates or make_certificates()
        self.socket = base / "docker.sock"
        self.port = free_port()
        self.bridge = f"erud{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        if len(str(self.socket)) > 100:
            raise RuntimeError(f"{self.socket} is too long for a socket's path, use a shorter base")

    @property
    def unix_endpoint(self) -> str:
        return f"unix://{self.socket}"

    @property
    def tls_endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def tls(self) -> NodeTLS:
        return self.certificates.client

    def start(self) -> None:
        """Returns when it answers."""
        self.base.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("empty.json", "{}"),
            ("ca.pem", self.certificates.ca),
            ("cert.pem", self.certificates.server_cert),
            ("key.pem", self.certificates.server_key),
        ):
            (self.base / name).write_text(text)
        self._make_bridge()
        for stale in (self.base / "docker.pid", self.base / "exec" / "containerd" / "containerd.pid"):
            stale.unlink(missing_ok=True)
        with (self.base / "log").open("ab") as out:
            self._process = subprocess.Popen(
                self._arguments(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, "PATH": os.environ.get("PATH", "") + SBIN},
            )
        end = time.monotonic() + START_WAIT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                tail = (self.base / "log").read_text(errors="replace").splitlines()[-5:]
                self.stop()
                raise RuntimeError(f"the extra dockerd does not answer on {self.socket}: {' | '.join(tail)}")
            time.sleep(0.05)

    def _arguments(self) -> list[str]:
        dockerd = shutil.which("dockerd", path=os.environ.get("PATH", "") + SBIN)
        if dockerd is None:
            raise RuntimeError(f"dockerd is not installed; type: {sys.executable} scripts/prepare.py docker")
        return [
            dockerd,
            *("--config-file", str(self.base / "empty.json")),
            *("--data-root", str(self.base / "data"), "--exec-root", str(self.base / "exec")),
            *("--pidfile", str(self.base / "docker.pid")),
            *("-H", self.unix_endpoint, "-H", self.tls_endpoint, "--tlsverify"),
            *("--tlscacert", str(self.base / "ca.pem")),
            *("--tlscert", str(self.base / "cert.pem"), "--tlskey", str(self.base / "key.pem")),
            # A bridge of its own: with none at all, dockerd would delete the machine's docker0.
            *("--bridge", self.bridge, "--iptables=false", "--ip-masq=false"),
            *("--live-restore", "--log-level", "warn"),
        ]

    def _make_bridge(self) -> None:
        if Path("/sys/class/net", self.bridge).exists():
            return
        subnet = f"10.{200 + self.port // 256 % 50}.{self.port % 256}"
        for command in (
            ["ip", "link", "add", self.bridge, "type", "bridge"],
            ["ip", "addr", "add", f"{subnet}.1/24", "dev", self.bridge],
            ["ip", "link", "set", self.bridge, "up"],
        ):
            subprocess.run(command, check=True, capture_output=True, env={"PATH": os.environ.get("PATH", "") + SBIN})

    def _answers(self) -> bool:
        return ask(self.socket, "GET", "/_ping")[0] == 200

    def load(self, image: str, source: Path) -> None:
        """Copy an image from the daemon behind `source`."""
        status, data = ask(source, "GET", f"/images/{image}/get")
        if status != 200:
            raise RuntimeError(f"no image {image} to copy: {data!r}")
        status, data = ask(self.socket, "POST", "/images/load?quiet=1", data)
        if status != 200:
            raise RuntimeError(f"image {image} was refused: {data!r}")

    def kill(self) -> None:
        """As a crash does; containers go on."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def clean(self) -> None:
        """Remove every container, stop, and take the files away."""
        if self._process is not None:
            status, data = ask(self.socket, "GET", "/containers/json?all=1")
            if status == 200:
                for row in json.loads(data):
                    ask(self.socket, "DELETE", f"/containers/{row['Id']}?force=1&v=1")
        self.stop()
        command = ["ip", "link", "del", self.bridge]
        subprocess.run(command, check=False, capture_output=True, env={"PATH": os.environ.get("PATH", "") + SBIN})
        mounts = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in reversed([path for path in mounts if path.startswith(f"{self.base}/")]):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        shutil.rmtree(self.base, ignore_errors=True)


@contextmanager
def extra_docker(
    base: Path, image: str, source: Path, certificates: Certificates | None = None
) -> Iterator[ExtraDocker]:
    """A running extra daemon with `image` copied from the one behind `source`, cleaned away at the end."""
    docker = ExtraDocker(base, certificates)
    try:
        docker.start()
        docker.load(image, source)
        yield docker
    finally:
        docker.clean()


def ask(path: Path, method: str, url: str, body: bytes = b"", kind: str = "application/x-tar") -> tuple[int, bytes]:
    """One call on a daemon's Unix socket; status 0 when nothing answers."""

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(120)
            self.sock.connect(str(path))

    connection = Connection("docker")
    try:
        connection.request(method, url, body or None, {"Content-Type": kind} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException, ssl.SSLError) as error:
        return 0, str(error).encode()
    finally:
        connection.close()
