"""Where etcd is and how to talk to it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from eru.model.errors import InvalidInput

MESSAGE_BYTES_MAX = 256 * 1024 * 1024  # a page of a range; watches come in fragments


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """`endpoints`: "host:port", or with "http://" or "https://" in front.

    TLS is used for "https://" and when any certificate file is named. A client
    certificate whose common name is an etcd user needs no password.
    """

    endpoints: tuple[str, ...]
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""  # expected in the server's certificate, if not the endpoint's host
    username: str = ""
    password: str = field(default="", repr=False)
    connect_timeout_s: float = 2.0
    request_timeout_s: float = 5.0  # for a whole call with all its tries
    message_bytes_max: int = MESSAGE_BYTES_MAX
    watch_timeout_s: float = 30.0  # a watch without any connection for so long gives up

    def targets(self) -> list[str]:
        """The endpoints as host:port. Raises InvalidInput."""
        if not self.endpoints:
            raise InvalidInput("etcd endpoints are empty, expected at least one host:port")
        return [_target(endpoint) for endpoint in self.endpoints]

    def tls(self) -> ssl.SSLContext | None:
        """None without TLS. Raises InvalidInput naming the file that cannot be used."""
        secure = any(endpoint.startswith("https://") for endpoint in self.endpoints)
        if not (secure or self.ca_file or self.cert_file or self.key_file):
            return None
        if any(endpoint.startswith("http://") for endpoint in self.endpoints):
            raise InvalidInput("etcd endpoints mix http:// with TLS, expected https:// for all of them")
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidInput("etcd client certificate and key belong together, only one of them is given")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        self._trust(context)
        self._identify(context)
        return context

    def _trust(self, context: ssl.SSLContext) -> None:
        """Without a file: the authorities that this machine trusts."""
        if self.ca_file is None:
            context.load_default_certs()
            return
        text = _read("CA certificate", self.ca_file).decode(errors="replace")
        try:
            context.load_verify_locations(cadata=text)
        except ssl.SSLError as error:
            raise InvalidInput(f"etcd CA certificate {self.ca_file} is not a certificate in PEM form") from error

    def _identify(self, context: ssl.SSLContext) -> None:
        if self.cert_file is None or self.key_file is None:
            return
        _read("client certificate", self.cert_file)
        _read("client key", self.key_file)
        try:
            context.load_cert_chain(self.cert_file, self.key_file, password="")
        except (ssl.SSLError, ValueError) as error:
            raise InvalidInput(
                f"etcd client certificate {self.cert_file} and key {self.key_file} cannot be used together:"
                " expected a PEM certificate and its own key without a password"
            ) from error


def _target(endpoint: str) -> str:
    target = endpoint.removeprefix("http://").removeprefix("https://").rstrip("/")
    host, _, port = target.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidInput(f"etcd endpoint {endpoint!r} is not host:port, for example 127.0.0.1:2379")
    return target


def _read(what: str, path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(f"etcd {what} {path} cannot be read: {error.strerror}") from error
