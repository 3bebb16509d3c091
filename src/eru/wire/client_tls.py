"""What a client brings to a port with TLS."""

from __future__ import annotations

import msgspec


class ClientTLS(msgspec.Struct, frozen=True, kw_only=True):
    """PEM texts. `ca` empty: the system's authorities. `cert` and `key`: for mutual TLS.

    `server_name`: the name the certificate must carry, when it is not the address.
    """

    ca: bytes = b""
    cert: bytes = b""
    key: bytes = b""
    server_name: str = ""

    def __repr__(self) -> str:
        return "ClientTLS(***)"
