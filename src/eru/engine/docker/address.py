"""Where a Docker engine is, and how to trust it."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from urllib.parse import urlsplit

from eru.model.errors import EngineUnreachable, InvalidInput
from eru.model.nodes import NodeTLS

TLS_PORT = 2376
PLAIN_PORT = 2375
UNIX_PATH_BYTES_MAX = 107


@dataclass(frozen=True, slots=True)
class Address:
    """Either a socket path or host and port."""

    endpoint: str
    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def place(self) -> str:
        """For messages."""
        return self.path or f"{self.host}:{self.port}"

    @property
    def node_ip(self) -> str:
        """The host part; empty for a socket on this machine."""
        return self.host


def parse_address(endpoint: str, tls: bool) -> Address:
    """Raises InvalidInput when the endpoint is not `unix:///path` or `tcp://host[:port]`."""
    parts = urlsplit(endpoint)
    if parts.scheme == "unix":
        path = parts.netloc + parts.path
        if not path.startswith("/"):
            raise InvalidInput(f"endpoint {endpoint!r} must be unix:// and an absolute path")
        if len(path.encode()) > UNIX_PATH_BYTES_MAX:
            raise InvalidInput(f"endpoint {endpoint!r}: socket paths have at most {UNIX_PATH_BYTES_MAX} bytes")
        return Address(endpoint, path=path)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme != "tcp" or not parts.hostname or port == -1 or parts.path not in ("", "/"):
        raise InvalidInput(f"endpoint {endpoint!r} must be unix:///path or tcp://host:port")
    return Address(endpoint, host=parts.hostname, port=port or (TLS_PORT if tls else PLAIN_PORT))


def tls_context(tls: NodeTLS, check_hostname: bool) -> ssl.SSLContext | None:
    """A context that verifies the engine's certificate and shows ours; None without certificates.

    Raises EngineUnreachable when the PEM texts cannot be used.
    """
    if not (tls.ca or tls.cert or tls.key):
        return None
    missing = [name for name, text in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)) if not text]
    if missing:
        raise EngineUnreachable(
            f"the node's certificates are incomplete, {' and '.join(missing)} missing: give ca, cert and key together"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = check_hostname
    try:
        context.load_verify_locations(cadata=tls.ca)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise EngineUnreachable("the node's ca is not a PEM certificate: give the CA that signed Docker's") from error
    # The ssl module reads key pairs from files only; these are private and gone at once.
    with tempfile.NamedTemporaryFile("w") as cert, tempfile.NamedTemporaryFile("w") as key:
        cert.write(tls.cert)
        cert.flush()
        key.write(tls.key)
        key.flush()
        try:
            context.load_cert_chain(cert.name, key.name, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise EngineUnreachable(
                "the node's cert and key are not a PEM pair that belongs together: check both files"
            ) from error
    return context


def _no_password() -> str:
    raise ValueError("encrypted keys are not supported")
