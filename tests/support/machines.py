"""Machines with a Docker each, on this one: own network, own /run, /etc and /var/lib, the usual paths in all of them.

A machine is a network namespace and a mount namespace with a dockerd in it.
What runs there on the network `host` has the machine's address and loopback,
and `/var/run/docker.sock` as the source of a volume is the machine's own. All
share this machine's kernel, process ids and control groups.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.docker import SBIN, START_WAIT_S, STOP_WAIT_S, ask, free_port

ROOT = Path(__file__).resolve().parents[2]
ENVIRON = {**os.environ, "PATH": os.environ.get("PATH", "") + SBIN}
SYS_RESOURCE = 24  # number of the capability
# In the machine's namespaces: its own directories, then wait until its network is there.
BEGIN = """
set -e
mount --bind "$BASE/etc" /etc
mount --bind "$BASE/lib" /var/lib
mount --bind "$BASE/run" /run
ip link set lo up
read go
exec "$@"
"""
# A runtime that leaves out what this machine may not give to anybody.
RUNTIME = """#!{python}
import json, os, sys
words = sys.argv[1:]
if "create" in words and "--bundle" in words:
    path = os.path.join(words[words.index("--bundle") + 1], "config.json")
    with open(path) as file:
        config = json.load(file)
    process = config["process"]
    for kind, names in (process.get("capabilities") or {{}}).items():
        process["capabilities"][kind] = [name for name in names if name != "CAP_SYS_RESOURCE"]
    process["rlimits"] = [limit for limit in process.get("rlimits") or [] if limit["type"] != "RLIMIT_NOFILE"]
    process.pop("oomScoreAdj", None)
    with open(path, "w") as file:
        json.dump(config, file)
os.execvp("runc", ["runc", *words])
"""


class Machine:
    """One of them. `address`: its own on the network of all machines; `gateway`: where it reaches this one."""

    def __init__(self, base: Path, name: str, network: Network) -> None:
        self.base = base / name
        self.name = name
        self.address = network.next_address()
        self.gateway = network.gateway
        self._network = network
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Docker's, as seen from here; in the machine it is /var/run/docker.sock."""
        return self.base / "run" / "docker.sock"

    @property
    def endpoint(self) -> str:
        return f"unix://{self.socket}"

    def path(self, inside: str) -> Path:
        """Where /etc/..., /var/lib/... or /run/... of the machine is found from here."""
        for prefix in ("etc", "var/lib", "run"):
            if inside.startswith(f"/{prefix}/"):
                return self.base / prefix.rpartition("/")[2] / inside[len(prefix) + 2 :]
        raise ValueError(f"{inside} is shared by all machines")

    def start(self) -> None:
        """Returns when its Docker answers."""
        for folder in ("run", "lib", "data"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        if not (self.base / "etc").exists():
            shutil.copytree("/etc", self.base / "etc", symlinks=True, ignore=shutil.ignore_patterns("eru", "shadow*"))
        (self.base / "empty.json").write_text("{}")
        for stale in self.base.glob("run/**/*.pid"):
            stale.unlink(missing_ok=True)
        with (self.base / "log").open("ab") as out:
            self._process = subprocess.Popen(
                ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", BEGIN, "sh", *self._dockerd()],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**ENVIRON, "BASE": str(self.base)},
            )
        assert self._process.stdin is not None
        self._network.join(self._process.pid, self.address)
        self._process.stdin.write(b"go\n")
        self._process.stdin.close()
        end = time.monotonic() + START_WAIT_S
        while ask(self.socket, "GET", "/_ping")[0] != 200:
            if self._process.poll() is not None or time.monotonic() > end:
                tail = (self.base / "log").read_text(errors="replace")[-600:]
                raise RuntimeError(f"no dockerd on {self.name}: {tail}")
            time.sleep(0.05)

    def _dockerd(self) -> Sequence[str]:
        runtime = ()
        if _lacks(SYS_RESOURCE):
            program = self.base / "runc-here"
            program.write_text(RUNTIME.format(python=os.path.realpath(sys.executable)))
            program.chmod(0o755)
            runtime = ("--add-runtime", f"here={program}", "--default-runtime", "here")
        return (
            *("dockerd", "--config-file", str(self.base / "empty.json"), "--data-root", str(self.base / "data")),
            *("--iptables=false", "--ip-masq=false", "--log-level", "warn", *runtime),
        )

    def run(self, *command: str) -> str:
        """The output of a command on the machine's network; it must succeed."""
        assert self._process is not None
        words = ["nsenter", "--target", str(self._process.pid), "--net", *command]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRON, timeout=30)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def clean(self) -> None:
        """Remove its containers, end its Docker, and take its files away."""
        process, self._process = self._process, None
        if process is None:
            return
        status, data = ask(self.socket, "GET", "/containers/json?all=1")
        for row in json.loads(data) if status == 200 else []:
            ask(self.socket, "DELETE", f"/containers/{row['Id']}?force=1&v=1")
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(self.base, ignore_errors=True)


class Network:
    """A bridge that all machines are plugged into; this machine has `gateway` there."""

    def __init__(self) -> None:
        number = free_port()
        self._name = f"erum{number}"
        self._prefix = f"10.{150 + number // 256 % 50}.{number % 256}"
        self._count = 1
        self.gateway = f"{self._prefix}.1"
        _ip("link", "add", self._name, "type", "bridge")
        _ip("addr", "add", f"{self.gateway}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")

    def next_address(self) -> str:
        self._count += 1
        return f"{self._prefix}.{self._count}"

    def join(self, pid: int, address: str) -> None:
        """Plug the network namespace of a process in."""
        end = time.monotonic() + START_WAIT_S
        while os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            assert time.monotonic() < end, "no network namespace was made"
            time.sleep(0.005)
        plug = f"{self._name}-{address.rpartition('.')[2]}"
        _ip("link", "add", plug, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("link", "set", plug, "master", self._name, "up")
        for words in (("addr", "add", f"{address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            command = ["nsenter", "--target", str(pid), "--net", "ip", *words]
            subprocess.run(command, check=True, capture_output=True, env=ENVIRON)

    def clean(self) -> None:
        subprocess.run(["ip", "link", "del", self._name], check=False, capture_output=True, env=ENVIRON)


@contextmanager
def machines(*names: str) -> Iterator[list[Machine]]:
    """Running machines, taken away at the end."""
    network = Network()
    base = Path(tempfile.mkdtemp(prefix="eru-m-"))
    made = [Machine(base, name, network) for name in names]
    try:
        for machine in made:
            machine.start()
        yield made
    finally:
        for machine in made:
            machine.clean()
        network.clean()
        shutil.rmtree(base, ignore_errors=True)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False, env=ENVIRON)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def _lacks(capability: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return not int(line.split()[1], 16) >> capability & 1
    return True
