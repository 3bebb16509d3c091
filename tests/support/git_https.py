"""Git repositories and files over HTTPS, with a certificate of an authority of the test's own."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

WHO = {f"GIT_{who}_{what}": "tests@here" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@dataclass
class GitHost:
    """`root` holds bare repositories; `files` what is served beside them: path -> body."""

    root: Path
    ca: Path
    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)  # of requests for files

    def url(self, name: str) -> str:
        return f"https://localhost:{self.port}/{name}"

    def repository(
        self,
        name: str,
        commits: list[dict[str, str]],
        submodules: dict[str, str] | None = None,
        ssh_key: Path | None = None,
    ) -> str:
        """A bare repository with these states of its files, tagged v1, v2, ...; its address."""
        work = self.root / f"{name}.work"
        work.mkdir()
        git(work, "init", "-q", "-b", "main")
        for path, url in (submodules or {}).items():
            git(work, "submodule", "--quiet", "add", url, path, ca=self.ca, ssh_key=ssh_key)
        for number, files in enumerate(commits, 1):
            for path, text in files.items():
                (work / path).write_text(text)
            git(work, "add", "-A")
            git(work, "commit", "-q", "-m", f"state {number}")
            git(work, "tag", f"v{number}")
        git(work, "clone", "-q", "--bare", str(work), str(self.root / f"{name}.git"))
        return self.url(f"{name}.git")


def git(where: Path, *arguments: str, ca: Path | None = None, ssh_key: Path | None = None) -> None:
    environ = {**os.environ, **WHO, "GIT_CONFIG_GLOBAL": "/dev/null", **({"GIT_SSL_CAINFO": str(ca)} if ca else {})}
    if ssh_key is not None:
        environ["GIT_SSH_COMMAND"] = f"ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -i {ssh_key}"
    subprocess.run(["git", *arguments], cwd=where, env=environ, check=True, capture_output=True)


@contextmanager
def git_host(folder: Path) -> Iterator[GitHost]:
    """Serves until the block ends."""
    authority = trustme.CA()
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    root = folder / "repositories"
    root.mkdir()
    host = GitHost(root, ca)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path in host.files:
                host.headers.append(dict(self.headers))
                self._answer(200, {"Content-Length": str(len(host.files[path]))}, host.files[path])
                return
            self._git(path, query)

        def do_POST(self) -> None:
            path, _, query = self.path.partition("?")
            self._git(path, query)

        def _git(self, path: str, query: str) -> None:
            """As git's own CGI program answers."""
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            environ = {
                **os.environ,
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            program = shutil.which("git") or "git"
            done = subprocess.run([program, "http-backend"], env=environ, input=body, capture_output=True, check=False)
            head, _, answer = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
            status = int(headers.pop("Status", "200").split()[0])
            self._answer(status, {**headers, "Content-Length": str(len(answer))}, answer)

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    host.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
