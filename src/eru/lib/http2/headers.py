"""Headers of HTTP/2: what a client packed (RFC 7541), and our own in the plainest form.

Unpacking is the `hpack` library's. What a block says is remembered while the
table stays as it is, since the calls of a client look alike: below 1 us
instead of 17.
"""

from __future__ import annotations

import hpack

Header = tuple[bytes, bytes]

TABLE_BYTES_MAX = 4_096  # of the dynamic table, the protocol's default; we never announce another size
ENTRY_BYTES = 32  # what an entry counts beside its name and value
UNPACKED_LIMITS_MAX = 4  # more than so many times the limit is not even unpacked to its end
BLOCKS_KEPT_MAX = 64  # header blocks whose meaning is remembered
BLOCK_KEPT_BYTES_MAX = 1_024  # longer ones are not


class HeaderError(ValueError):
    """The block cannot be read; the connection cannot go on, because its table is unknown from here on."""


class TooLarge(Exception):
    """More headers than the limit; the block was read to its end."""


class Decoder:
    """The headers of one connection, in order. `limit`: bytes of one block's headers, as the protocol counts them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._unpacker = hpack.Decoder(max_header_list_size=UNPACKED_LIMITS_MAX * limit)
        self._unpacker.max_allowed_table_size = TABLE_BYTES_MAX
        self._known: dict[bytes, list[Header]] = {}

    def decode(self, block: bytes) -> list[Header]:
        """Name and value of each header. Raises HeaderError, TooLarge."""
        known = self._known.get(block)
        if known is not None:
            return known
        newest, many, most = self._shape()
        try:
            headers = [(bytes(name), bytes(value)) for name, value in self._unpacker.decode(block, raw=True)]
        except (hpack.HPACKError, IndexError, ValueError) as error:
            raise HeaderError(f"headers that cannot be read: {type(error).__name__}") from error
        if sum(len(name) + len(value) + ENTRY_BYTES for name, value in headers) > self._limit:
            self._known.clear()
            raise TooLarge
        now, many_now, most_now = self._shape()
        if now is not newest or (many_now, most_now) != (many, most):
            self._known.clear()
        elif len(self._known) < BLOCKS_KEPT_MAX and len(block) <= BLOCK_KEPT_BYTES_MAX:
            self._known[block] = headers
        return headers

    def _shape(self) -> tuple[object, int, int]:
        """Newest entry, number of entries, size: the table is the same while these very things are."""
        table = self._unpacker.header_table
        entries = table.dynamic_entries
        return (entries[0] if entries else None, len(entries), table.maxsize)


def literal(name: bytes, value: bytes) -> bytes:
    """One header that no table remembers."""
    return b"\0" + plain(name) + plain(value)


def plain(text: bytes) -> bytes:
    """A name or value as it is, with its length in front."""
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
