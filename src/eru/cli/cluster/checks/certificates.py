"""Until when certificates are good: ours from files, others' from a handshake with whoever shows them."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

from eru.cli.cluster.checks.finding import Finding, expiry
from eru.cli.settings import Settings
from eru.lib.world import World

HANDSHAKE_S = 3.0
_TIMES, _UTC_TIME, _VERSION = (0x17, 0x18), 0x17, 0xA0  # DER tags


async def own(settings: Settings, world: World) -> list[Finding]:
    """The files of --tls-cert and --tls-ca."""
    files = {"own certificate": settings.tls_cert, "authority": settings.tls_ca}
    found = []
    for label, path in files.items():
        if path:
            found += await asyncio.to_thread(_file, label, path, world)
    return found


def _file(label: str, path: str, world: World) -> list[Finding]:
    cure = f"make a new one and put it at {path}"
    try:
        text = Path(path).read_text("ascii", "replace")
        begin = text.index("-----BEGIN CERTIFICATE-----")
        pem = text[begin : text.index("-----END CERTIFICATE-----", begin)] + "-----END CERTIFICATE-----\n"
        return [expiry(f"{label} {path}", expires(ssl.PEM_cert_to_DER_cert(pem)), world, cure)]
    except (OSError, ValueError):
        return [Finding("bad", f"{label} {path} is no certificate that can be read", cure)]


async def shown_by(host: str, port: int, what: str, world: World, cure: str) -> list[Finding]:
    """The certificate of a server; nothing if it does not speak TLS or is out of reach from here.

    It is looked at, not trusted: whoever calls the server for real verifies it.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
            der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
        return [expiry(what, expires(der), world, cure)]
    except (OSError, TimeoutError, ValueError):
        return []


def expires(der: bytes) -> float:
    """The `notAfter` of a certificate in DER, as Unix seconds. Raises ValueError.

    A certificate is a sequence whose first part is a sequence of: version
    (optional), serial number, algorithm, issuer, validity, ...
    """
    body = _inside(_inside(der, 0)[0], 0)[0]
    at = 0
    if body[:1] == bytes([_VERSION]):
        at = _inside(body, at)[1]
    for _ in range(3):  # serial number, algorithm, issuer
        at = _inside(body, at)[1]
    validity = _inside(body, at)[0]
    after = _inside(validity, 0)[1]
    kind, text = validity[after], _inside(validity, after)[0].decode("ascii")
    if kind not in _TIMES:
        raise ValueError("no time where the end of validity should be")
    if kind == _UTC_TIME:  # two digits of the year: 50 to 99 are of the last century
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _inside(data: bytes, at: int) -> tuple[bytes, int]:
    """(contents, where the next one begins) of the element at `at`. Raises ValueError."""
    if at + 2 > len(data):
        raise ValueError("a certificate that ends too early")
    size, begin = data[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        size, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
    if begin + size > len(data):
        raise ValueError("a certificate that ends too early")
    return data[begin : begin + size], begin + size
