"""Header compression of HTTP/2 (RFC 7541): reading all of it, writing the plainest form."""

from __future__ import annotations

from collections import deque
from functools import lru_cache

Header = tuple[bytes, bytes]

TABLE_BYTES_MAX = 4_096  # of the dynamic table, the protocol's default; we never announce another size
ENTRY_BYTES = 32  # what an entry counts beside its name and value
NUMBER_BYTES_MAX = 5  # of one encoded number
HUFFMAN_CACHED_BYTES = 256  # longer strings are not remembered
HUFFMAN_CACHE_TEXTS = 1_024

# The Huffman code of RFC 7541, appendix B, is canonical: the lengths in bits of its 257 codes say it all.
_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b080606060505050606060606"
    "060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e060f050605060506060605070706060605"
    "06070605050607070707070f0b0e0d1c141614141616161716171717171718171818161718171717171516171617171816151416161717151"
    "716161815161717151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b14"
    "181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
_END = 256

_STATIC: list[Header] = [
    (name.encode(), value.encode())
    for name, _, value in (
        line.partition("=")
        for line in (
            ":authority",
            ":method=GET",
            ":method=POST",
            ":path=/",
            ":path=/index.html",
            ":scheme=http",
            ":scheme=https",
            ":status=200",
            ":status=204",
            ":status=206",
            ":status=304",
            ":status=400",
            ":status=404",
            ":status=500",
            "accept-charset",
            "accept-encoding=gzip, deflate",
            "accept-language",
            "accept-ranges",
            "accept",
            "access-control-allow-origin",
            "age",
            "allow",
            "authorization",
            "cache-control",
            "content-disposition",
            "content-encoding",
            "content-language",
            "content-length",
            "content-location",
            "content-range",
            "content-type",
            "cookie",
            "date",
            "etag",
            "expect",
            "expires",
            "from",
            "host",
            "if-match",
            "if-modified-since",
            "if-none-match",
            "if-range",
            "if-unmodified-since",
            "last-modified",
            "link",
            "location",
            "max-forwards",
            "proxy-authenticate",
            "proxy-authorization",
            "range",
            "referer",
            "refresh",
            "retry-after",
            "server",
            "set-cookie",
            "strict-transport-security",
            "transfer-encoding",
            "user-agent",
            "vary",
            "via",
            "www-authenticate",
        )
    )
]


class HeaderError(ValueError):
    """The block cannot be read; the connection cannot go on, because its table is unknown from here on."""


class TooLarge(Exception):
    """More headers than `limit` bytes; the block was read to its end."""


class Decoder:
    """The headers of one connection, in order."""

    def __init__(self) -> None:
        self._dynamic: deque[Header] = deque()
        self._size = 0
        self._most = TABLE_BYTES_MAX
        self.generation = 0  # changes whenever the table does: equal blocks of equal generations say the same

    def decode(self, block: bytes, limit: int) -> list[Header]:
        """Name and value of each header. Raises HeaderError; TooLarge above `limit` bytes in all."""
        headers: list[Header] = []
        at, end, size = 0, len(block), 0
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = _number(block, at, 7)
                header = self._entry(index)
            elif first & 0xE0 == 0x20:
                if headers:
                    raise HeaderError("the table changes its size between headers")
                most, at = _number(block, at, 5)
                if most > TABLE_BYTES_MAX:
                    raise HeaderError(f"a table of {most} bytes was not offered")
                self._most = most
                self._shrink()
                continue
            else:
                kept = bool(first & 0x40)
                index, at = _number(block, at, 6 if kept else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                header = (name, value)
                if kept:
                    self._keep(header)
            size += len(header[0]) + len(header[1]) + ENTRY_BYTES
            if size <= limit:
                headers.append(header)
        if size > limit:
            raise TooLarge
        return headers

    def _entry(self, index: int) -> Header:
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        place = index - len(_STATIC) - 1
        if not 0 <= place < len(self._dynamic):
            raise HeaderError(f"no entry {index} in the header table")
        return self._dynamic[place]

    def _keep(self, header: Header) -> None:
        self._dynamic.appendleft(header)
        self._size += len(header[0]) + len(header[1]) + ENTRY_BYTES
        self.generation += 1
        self._shrink()

    def _shrink(self) -> None:
        while self._size > self._most:
            name, value = self._dynamic.pop()
            self._size -= len(name) + len(value) + ENTRY_BYTES
            self.generation += 1


def literal(name: bytes, value: bytes) -> bytes:
    """One header that no table remembers."""
    return b"\0" + _plain(name) + _plain(value)


def _plain(text: bytes) -> bytes:
    length = len(text)
    if length < 127:
        return bytes((length,)) + text
    length -= 127
    head = bytearray((127,))
    while length >= 128:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + text


def _number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """The number whose first byte has `bits` bits for it, and where the next thing begins."""
    full = (1 << bits) - 1
    number = block[at] & full
    at += 1
    if number < full:
        return number, at
    for shift in range(0, 7 * NUMBER_BYTES_MAX, 7):
        if at >= len(block):
            raise HeaderError("a number has no end")
        byte = block[at]
        at += 1
        number += (byte & 127) << shift
        if byte < 128:
            return number, at
    raise HeaderError("a number is too large")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(block):
        raise HeaderError("a header has no end")
    packed = block[at] & 0x80
    length, at = _number(block, at, 7)
    text = block[at : at + length]
    if len(text) < length:
        raise HeaderError("a header has no end")
    at += length
    if not packed:
        return text, at
    return (_remembered(text) if length <= HUFFMAN_CACHED_BYTES else unpacked(text)), at


def _codes() -> dict[tuple[int, int], int]:
    """(length in bits, code) -> byte."""
    codes: dict[tuple[int, int], int] = {}
    code, last = 0, 0
    for symbol in sorted(range(len(_LENGTHS)), key=lambda symbol: (_LENGTHS[symbol], symbol)):
        code <<= _LENGTHS[symbol] - last
        last = _LENGTHS[symbol]
        codes[last, code] = symbol
        code += 1
    return codes


_CODES = _codes()
_SHORTEST, _LONGEST = min(_LENGTHS), max(_LENGTHS)
_PADDING_BITS_MAX = 7


def unpacked(data: bytes) -> bytes:
    """The text behind a Huffman code. Raises HeaderError."""
    text = bytearray()
    code, length = 0, 0
    for byte in data:
        for bit in range(7, -1, -1):
            code = code << 1 | byte >> bit & 1
            length += 1
            if length >= _SHORTEST and (symbol := _CODES.get((length, code))) is not None:
                if symbol == _END:
                    raise HeaderError("a Huffman text holds its own end")
                text.append(symbol)
                code, length = 0, 0
        if length > _LONGEST:
            raise HeaderError("no such Huffman code")
    if length > _PADDING_BITS_MAX or code != (1 << length) - 1:
        raise HeaderError("a Huffman text ends inside a code")
    return bytes(text)


_remembered = lru_cache(HUFFMAN_CACHE_TEXTS)(unpacked)
