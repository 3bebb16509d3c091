"""HTTP/2 on the wire (RFC 9113): kinds of frames, error codes, and how frames are written."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0x0, 0x1, 0x2, 0x3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 0x5, 0x6, 0x7, 0x8, 0x9
ENHANCE_YOUR_CALM = 0xB

SET_ENABLE_PUSH, SET_STREAMS, SET_WINDOW, SET_FRAME, SET_HEADERS = 0x2, 0x3, 0x4, 0x5, 0x6

WINDOW_FIRST = 65_535  # bytes, of a connection and of a stream before anybody says anything else
WINDOW_MOST = 2**31 - 1
FRAME_BYTES_FIRST = 16_384
FRAME_BYTES_MOST = 2**24 - 1

_pack_head = struct.Struct(">HBBBI").pack
_pack_number = struct.Struct(">I").pack
_pack_setting = struct.Struct(">HI").pack


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes in front of a frame's payload."""
    return _pack_head(length >> 8, length & 255, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return head(len(payload), kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """What we tell of ourselves."""
    return frame(SETTINGS, 0, 0, b"".join(_pack_setting(*item) for item in values.items()))


def window_update(stream: int, more: int) -> bytes:
    """The other side may send `more` bytes."""
    return frame(WINDOW_UPDATE, 0, stream, _pack_number(more))


def reset(stream: int, error: int) -> bytes:
    """The end of a stream at once."""
    return frame(RST_STREAM, 0, stream, _pack_number(error))


def goaway(last: int, error: int, why: bytes = b"") -> bytes:
    """No stream above `last` is looked at any more."""
    return frame(GOAWAY, 0, 0, _pack_number(last) + _pack_number(error) + why)


def number(payload: bytes, at: int = 0) -> int:
    """31 bits."""
    return int.from_bytes(payload[at : at + 4], "big") & 0x7FFFFFFF
