"""Live log records for readers of `/log/`: a bounded queue each, so that a slow one only harms itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from eru.agent.logs.records import STDERR
from eru.agent.workloads import Workload

QUEUE_BYTES_MAX = 4 << 20
READERS_MAX = 128


class Reader:
    """One subscriber. Empty filters match everything; `app` always has to match."""

    def __init__(self, app: str, entrypoint: str = "", id: str = "", stream: str = "") -> None:
        self.app, self.entrypoint, self.id, self.stream = app, entrypoint, id, stream
        self.dropped = 0
        self._blocks: list[bytes] = []
        self._bytes = 0
        self._wake = asyncio.Event()

    def wants(self, workload: Workload, stream: int) -> bool:
        return (
            (not self.entrypoint or self.entrypoint == workload.entrypoint)
            and (not self.id or workload.id.startswith(self.id))
            and (not self.stream or self.stream == ("stderr" if stream == STDERR else "stdout"))
        )

    def put(self, records: bytes, count: int) -> int:
        """Queue records; returns how many were dropped because this reader is slow."""
        if self._bytes + len(records) > QUEUE_BYTES_MAX:
            self.dropped += count
            return count
        self._blocks.append(records)
        self._bytes += len(records)
        self._wake.set()
        return 0

    async def records(self) -> AsyncGenerator[bytes, None]:
        """One record with CRLF at a time, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            blocks, self._blocks = self._blocks, []
            for block in blocks:
                for record in block.splitlines():
                    yield record + b"\r\n"
                self._bytes -= len(block)


class Hub:
    """Knows who reads which app."""

    def __init__(self) -> None:
        self._readers: dict[str, set[Reader]] = {}
        self.dropped_total = 0

    def __len__(self) -> int:
        return sum(len(readers) for readers in self._readers.values())

    def join(self, reader: Reader) -> bool:
        """False when there are too many already."""
        if len(self) >= READERS_MAX:
            return False
        self._readers.setdefault(reader.app, set()).add(reader)
        return True

    def leave(self, reader: Reader) -> None:
        readers = self._readers.get(reader.app, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(reader.app, None)

    def wanted(self, app: str) -> bool:
        return app in self._readers

    def publish(self, workload: Workload, stream: int, records: bytes, count: int) -> None:
        for reader in self._readers.get(workload.app, ()):
            if reader.wants(workload, stream):
                self.dropped_total += reader.put(records, count)
