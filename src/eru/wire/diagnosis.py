"""Why a core cannot be talked to, in one sentence: grpc only says that it cannot.

One connection of our own is made after grpc has given up, to tell an address
where nothing listens from a port that wants TLS, has none, shows a
certificate that we do not trust, does not trust ours, or is no core at all.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from eru.wire.client_tls import ClientTLS

PROBE_S = 1.0  # for each of connecting, shaking hands and the first answer
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and empty settings
_SETTINGS = 4  # type of the frame that HTTP/2 begins with


async def why_unreachable(address: str, tls: ClientTLS | None) -> str:
    """One clause about `host:port`, or "" when there is nothing to say beyond that it does not answer."""
    host, _, port = address.rpartition(":")
    if address.startswith("unix:") or not port.isdigit():
        return ""
    return await asyncio.to_thread(_looked_at, host.strip("[]"), int(port), tls)


def _looked_at(host: str, port: int, tls: ClientTLS | None) -> str:
    try:
        context = _context(tls)
    except ssl.SSLError:
        return "the authority given for its certificate is not a usable PEM file"
    try:
        with socket.create_connection((host, port), timeout=PROBE_S) as plain:
            found = _handshake(plain, context, (tls.server_name if tls else "") or host, tls)
        return found or ("" if tls else _plainly(host, port))
    except socket.gaierror:
        return "no such name is known here"
    except OSError:
        return ""


def _plainly(host: str, port: int) -> str:
    """What answers without TLS, if it is no gRPC."""
    try:
        with socket.create_connection((host, port), timeout=PROBE_S) as plain:
            plain.sendall(_PREFACE)
            first = plain.recv(9)
    except TimeoutError:
        return "something listens there, but says nothing: is it the right port?"
    except OSError:
        return ""
    if len(first) > 3 and first[3] == _SETTINGS and not first.startswith(b"HTTP"):
        return ""
    return "something else answers there, not a core: is it the right port?" if first else ""


def _handshake(plain: socket.socket, context: ssl.SSLContext, name: str, tls: ClientTLS | None) -> str:
    try:
        with context.wrap_socket(plain, server_hostname=name) as talking:
            if tls is None:
                return "it speaks TLS and this client does not: give the authority of its certificate (--tls-ca)"
            answered = bool(talking.recv(1))
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not trusted ({error.verify_message.rstrip('.')}): check --tls-ca and the name"
    except ssl.SSLError as error:
        if tls is None:
            return ""
        if error.reason == "WRONG_VERSION_NUMBER":
            return "it does not speak TLS: switch TLS off here, or on there (tls.cert and tls.key)"
        answered = False
    except TimeoutError:
        return ""
    except OSError:
        answered = False
    if answered or tls is None:
        return ""
    if tls.cert:
        return "it does not accept this client's certificate: use one that its tls.client_ca has signed (--tls-cert)"
    return "it asks for a client's certificate: give one that its tls.client_ca has signed (--tls-cert, --tls-key)"


def _context(tls: ClientTLS | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=tls.ca.decode() if tls and tls.ca else None)
    context.set_alpn_protocols(["h2"])
    if tls is None:  # whether it speaks TLS at all; nothing is sent or believed
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
