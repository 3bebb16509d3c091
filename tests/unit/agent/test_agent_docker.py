"""The agent's own Docker client, against a server that is told how to behave."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile

from eru.agent.docker import DockerRuntime
from eru.agent.settings import DockerSettings

LINE = b"2024-01-02T03:04:05.000000001Z hello\n"


async def test_kept_lines_may_take_longer_than_other_answers() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = b'{"ApiVersion": "1.41", "MinAPIVersion": "1.12"}'
                if b"/logs?" in head:
                    await asyncio.sleep(2.5)
                    body = LINE
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                if b"/logs?" in head:
                    break
        writer.close()

    with tempfile.TemporaryDirectory() as short:
        server = await asyncio.start_unix_server(serve, f"{short}/docker.sock")
        runtime = DockerRuntime(DockerSettings(endpoint=f"unix://{short}/docker.sock"), 2.0)
        found = [line.data async for lines in runtime.history("c", tty=True, since_ns=1) for line in lines]
        await runtime.close()
        server.close()
    assert found == [b"hello\n"]
