"""Real etcd clusters on free loopback ports, made and ended by a test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from support.ports import free_port

START_WAIT_S = 90.0
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Certificates:
    """An authority of our own, a server certificate for 127.0.0.1 and client certificates by user name."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    @property
    def ca(self) -> Path:
        path = self.folder / "ca.pem"
        self.authority.cert_pem.write_to_path(path)
        return path

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """(certificate, key) files."""
        issued = self.authority.issue_cert(*(hosts or ("127.0.0.1",)), common_name=name)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return cert, key


class EtcdCluster:
    """`size` members. Use as a context manager; `kill` and `start` members at will."""

    def __init__(
        self,
        folder: Path,
        size: int = 1,
        certificates: Certificates | None = None,
        client_certificates: bool = False,
        flags: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._certificates = certificates
        self._client_certificates = client_certificates
        self._flags = flags
        self._ports = [(free_port(), free_port()) for _ in range(size)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def endpoints(self) -> tuple[str, ...]:
        """For EtcdSettings."""
        return tuple(f"{self._scheme}://127.0.0.1:{client}" for client, _ in self._ports)

    def start(self, *members: int) -> None:
        """Start these members (default: all) and wait until they answer."""
        wanted = members or tuple(range(len(self._ports)))
        for member in wanted:
            self._processes[member] = self._spawn(member)
        for member in wanted:
            self._wait(member)

    def kill(self, member: int) -> None:
        """kill -9."""
        process = self._processes.pop(member)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def pause(self, member: int) -> None:
        """Stop answering without closing anything, like a machine that hangs."""
        process = self._processes[member]
        process.send_signal(signal.SIGSTOP)
        end = time.monotonic() + START_WAIT_S
        while not all(state == "T" for state in _states(process.pid)):  # a thread may still be answering
            assert time.monotonic() < end, f"etcd does not stop: {_states(process.pid)}"
            time.sleep(0.005)

    def resume(self, member: int) -> None:
        self._processes[member].send_signal(signal.SIGCONT)

    def leader(self) -> int:
        """The member that leads."""
        status = json.loads(self.etcdctl("endpoint", "status", "-w", "json"))
        for entry in status:
            if entry["Status"]["header"]["member_id"] == entry["Status"]["leader"]:
                return self.endpoints.index(entry["Endpoint"])
        raise AssertionError(f"nobody leads: {status}")

    def etcdctl(self, *arguments: str) -> str:
        """Run etcdctl on all members."""
        command = [_program("etcdctl"), "--endpoints", ",".join(self.endpoints), *arguments]
        if self._certificates:
            cert, key = self._certificates.issue("root", "root")
            command += ["--cacert", str(self._certificates.ca), "--cert", str(cert), "--key", str(key)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "ETCDCTL_API": "3"}, check=False
        )
        assert done.returncode == 0, f"etcdctl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def close(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGKILL)
        for process in self._processes.values():
            process.wait()
        self._processes.clear()

    def __enter__(self) -> EtcdCluster:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def _scheme(self) -> str:
        return "https" if self._certificates else "http"

    def _spawn(self, member: int) -> subprocess.Popen[bytes]:
        client, peer = self._ports[member]
        members = ",".join(f"m{index}=http://127.0.0.1:{port}" for index, (_, port) in enumerate(self._ports))
        command = [
            _program("etcd"),
            *("--name", f"m{member}", "--data-dir", str(self._folder / f"m{member}")),
            *("--listen-client-urls", f"{self._scheme}://127.0.0.1:{client}"),
            *("--advertise-client-urls", f"{self._scheme}://127.0.0.1:{client}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{peer}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"),
            *("--initial-cluster", members),
            *self._flags,
        ]
        if self._certificates:
            cert, key = self._certificates.issue("server")
            command += ["--cert-file", str(cert), "--key-file", str(key)]
            if self._client_certificates:
                command += ["--client-cert-auth", "--trusted-ca-file", str(self._certificates.ca)]
        with (self._folder / f"m{member}.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _wait(self, member: int) -> None:
        end = time.monotonic() + START_WAIT_S
        while time.monotonic() < end and self._processes[member].poll() is None:
            try:
                with urllib.request.urlopen(
                    f"{self.endpoints[member]}/health", timeout=10, context=self._trust()
                ) as answer:
                    if json.load(answer)["health"] == "true":
                        return
            except OSError:
                pass
            time.sleep(0.05)
        tail = (self._folder / f"m{member}.log").read_text(errors="replace").splitlines()[-10:]
        raise AssertionError("etcd does not start:\n" + "\n".join(tail))

    def _trust(self) -> ssl.SSLContext | None:
        if not self._certificates:
            return None
        context = ssl.create_default_context(cafile=str(self._certificates.ca))
        context.load_cert_chain(*self._certificates.issue("root", "root"))
        return context


def _states(pid: int) -> list[str]:
    """What each thread of a process does, as in ps(1)."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return [stat.rpartition(")")[2].split()[0] for stat in stats]


def _program(name: str) -> str:
    path = shutil.which(name, path=PATH)
    assert path, f"{name} is not installed: apt-get install etcd-server etcd-client"
    return path
