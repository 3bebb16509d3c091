"""Where etcd is and how to talk to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from eru.model.errors import InvalidInput

MESSAGE_BYTES_MAX = 256 * 1024 * 1024  # a page of a range; watches come in fragments
RECONNECT_FIRST_MS = 100
RECONNECT_MOST_MS = 1_000
KEEPALIVE_MS = 10_000  # etcd closes connections that ping more often than every 5 s
KEEPALIVE_TIMEOUT_MS = 5_000


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

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None without TLS. Raises InvalidInput naming the file that cannot be read."""
        secure = any(endpoint.startswith("https://") for endpoint in self.endpoints)
        if not (secure or self.ca_file or self.cert_file or self.key_file):
            return None
        if any(endpoint.startswith("http://") for endpoint in self.endpoints):
            raise InvalidInput("etcd endpoints mix http:// with TLS, expected https:// for all of them")
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidInput("etcd client certificate and key belong together, only one of them is given")
        return grpc.ssl_channel_credentials(
            _read("CA certificate", self.ca_file),
            _read("client key", self.key_file),
            _read("client certificate", self.cert_file),
        )

    def options(self) -> list[tuple[str, str | int]]:
        """Channel options for grpc."""
        options: list[tuple[str, str | int]] = [
            ("grpc.max_receive_message_length", self.message_bytes_max),
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
            ("grpc.min_reconnect_backoff_ms", RECONNECT_MOST_MS),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_MOST_MS),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),  # each store has its own connections
        ]
        if self.server_name:
            options.append(("grpc.ssl_target_name_override", self.server_name))
        return options


def _target(endpoint: str) -> str:
    target = endpoint.removeprefix("http://").removeprefix("https://").rstrip("/")
    host, _, port = target.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidInput(f"etcd endpoint {endpoint!r} is not host:port, for example 127.0.0.1:2379")
    return target


def _read(what: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(f"etcd {what} {path} cannot be read: {error.strerror}") from error
