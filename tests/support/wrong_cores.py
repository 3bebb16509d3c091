"""Addresses where something is wrong: nobody there, another protocol, a login, certificates of every bad kind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket

import trustme

from eru.wire.server import ServerTLS
from support.script_core import running_core

PAGE = b"<!doctype html>\n<html><body>not a spec</body></html>\n"


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/page.html"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(PAGE if found else b"")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def _pages() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, name="pages")
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _dead() -> Iterator[str]:
    """A port that is taken, so that nobody else gets it, and refuses everybody."""
    with socket(AF_INET, SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def wrong_cores(folder: Path) -> Iterator[dict[str, str]]:
    """Word -> address. The authorities `ca.pem` and `other.pem`, `cert.pem` and `garbage.pem` are put into `folder`."""
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other.pem")
    ca.issue_cert("127.0.0.1").cert_chain_pems[0].write_to_path(folder / "cert.pem")
    (folder / "garbage.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    good = ca.issue_cert("127.0.0.1")
    expired = ca.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))

    def tls(issued: trustme.LeafCert, client_ca: bytes = b"") -> ServerTLS:
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        return ServerTLS(cert=chain, key=issued.private_key_pem.bytes(), client_ca=client_ca)

    with ExitStack() as stack:
        yield {
            "DEAD": stack.enter_context(_dead()),
            "WEB": stack.enter_context(_pages()),
            "AUTH": stack.enter_context(running_core(username="me", password="secret")),
            "MTLS": stack.enter_context(running_core(tls=tls(good, ca.cert_pem.bytes()))),
            "TLS": stack.enter_context(running_core(tls=tls(good))),
            "EXPIRED": stack.enter_context(running_core(tls=tls(expired))),
        }
