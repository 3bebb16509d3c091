"""Log records: one JSON object per line, built for whole blocks of lines at once.

A block of thousands of lines becomes records in a handful of calls that run
in C: the text is escaped as one JSON string, and each escaped line end is
replaced by the end of one record and the beginning of the next.
"""

from __future__ import annotations

import re
from datetime import datetime

import orjson

from eru.agent.workloads import Workload

STDOUT, STDERR = 1, 2
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_STAND_IN = "\ue0d5"  # of the private use area: hardly ever in a log
_STAND_IN_BYTES = _STAND_IN.encode()
_CONTROL = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def stamp(now: float) -> bytes:
    """Local time as in published records: `2024-01-02 03:04:05.6`, zeros at the end trimmed."""
    text = datetime.fromtimestamp(now).strftime("%Y-%m-%d %H:%M:%S.%f")
    return text.rstrip("0").rstrip(".").encode()


class RecordMaker:
    """Makes the records of one workload. Key order and names are a contract with log receivers."""

    def __init__(self, workload: Workload) -> None:
        self._heads = {kind: self._head(workload, name) for kind, name in _NAMES.items()}
        self._extra = b"null"
        self.refresh(workload)

    def refresh(self, workload: Workload) -> None:
        """Take over addresses that have changed."""
        self._extra = orjson.dumps(workload.extra(), option=orjson.OPT_SORT_KEYS)

    def block(self, stream: int, lines: bytes, when: bytes) -> bytes:
        """Records of complete lines; `lines` ends with a newline, `when` is from `stamp`."""
        if b"\r" in lines:
            lines = lines.replace(b"\r\n", b"\n")
        head = self._heads[stream]
        tail = b',"datetime":"' + when + b'","extra":' + self._extra + b"}\n"
        between = tail + head
        try:
            text = lines[:-1].decode()
        except UnicodeDecodeError:
            return self._one_by_one(lines, head, tail)
        if "\ufffd" in text:
            return self._one_by_one(lines, head, tail)
        if "\\" not in text:
            return head + orjson.dumps(text).replace(b"\\n", b'"' + between + b'"') + tail
        if _STAND_IN in text:
            return self._one_by_one(lines, head, tail)
        # a backslash before an n would look like an escaped line end, so it travels in disguise meanwhile
        escaped = orjson.dumps(text.replace("\\", _STAND_IN)).replace(b"\\n", b"\n")
        escaped = escaped.replace(_STAND_IN_BYTES, b"\\\\")
        return head + escaped.replace(b"\n", b'"' + between + b'"') + tail

    @staticmethod
    def _one_by_one(lines: bytes, head: bytes, tail: bytes) -> bytes:
        texts = (orjson.dumps(readable(line)) for line in lines[:-1].split(b"\n"))
        return b"".join([head + text + tail for text in texts])

    def piece(self, stream: int, data: bytes, when: bytes, partial: bool) -> bytes:
        """One record of a part of an over-long line; `partial`: the line goes on in the next record."""
        mark = b',"partial":true}\n' if partial else b"}\n"
        text = orjson.dumps(readable(data))
        return self._heads[stream] + text + b',"datetime":"' + when + b'","extra":' + self._extra + mark

    @staticmethod
    def _head(workload: Workload, stream: str) -> bytes:
        fields = {
            "id": workload.id,
            "name": workload.app,
            "type": stream,
            "entrypoint": workload.entrypoint,
            "ident": workload.ident,
        }
        return orjson.dumps(fields)[:-1] + b',"data":'


def readable(line: bytes) -> str:
    r"""Text of a line; invalid bytes become `\xNN`, and then control characters do so too."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", line.decode("utf-8", "backslashreplace"))
    return text.replace("\ufffd", "\\xff\\xfd") if "\ufffd" in text else text


def split_point(data: bytes, limit: int) -> int:
    """Where to cut `data` so that the first part has at most `limit` bytes and no character is cut."""
    if len(data) <= limit:
        return len(data)
    at = limit
    while at > max(limit - 4, 0) and data[at] & 0xC0 == 0x80:
        at -= 1
    return at if at > max(limit - 4, 0) else limit
