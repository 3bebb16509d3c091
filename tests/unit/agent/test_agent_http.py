"""The small HTTP server and client, against real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from eru.agent.api import process_lines
from eru.agent.docker_http import Dechunker
from eru.agent.http import Answer, HttpServer, Request, parse_request


async def endless() -> AsyncGenerator[bytes, None]:
    yield b"one\r\n"
    yield b"two\r\n"
    await asyncio.Event().wait()


async def hello(request: Request) -> Answer:
    return Answer(body=b"hello " + request.query.get("who", "").encode(), content_type="text/plain")


async def stream(request: Request) -> Answer:
    return Answer(stream=endless())


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = HttpServer({"/hello/": hello, "/stream": stream, "/open": hello}, "", frozenset(), frozenset({"/open"}))
    yield await server.start("127.0.0.1", 0)
    await server.close()


async def ask(port: int, text: str, enough: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    answer = b""
    async with asyncio.timeout(60):
        while not (enough and enough in answer):
            data = await reader.read(65536)
            if not data:
                break
            answer += data
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("request_line", "status", "words"),
    [
        ("GET /hello/?who=you", 200, b"hello you"),
        ("GET /hello/deeper/path", 200, b"hello "),
        ("GET /hello?who=a+b", 301, b"Location: /hello/?who=a+b"),
        ("POST /hello/", 405, b"Allow: GET"),
        ("HEAD /hello/", 405, b"Allow: GET"),
        ("HEAD /open", 200, b"hello"),
        ("POST /open", 200, b"hello"),
        ("PUT /open", 405, b"Allow: GET"),
        ("GET /nothing", 404, b"not found"),
        ("nonsense", 400, b""),
    ],
)
async def test_routes_as_published(port: int, request_line: str, status: int, words: bytes) -> None:
    answer = await ask(port, f"{request_line} HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    if request_line.startswith("HEAD"):
        assert answer.endswith(b"\r\n\r\n"), "a head only"
    else:
        assert words in answer


def test_figures_of_the_process_have_their_usual_names() -> None:
    figures = dict(line.split() for line in process_lines() if not line.startswith("#"))
    assert time.time() - 86_400 < float(figures["process_start_time_seconds"]) <= time.time() + 1
    assert float(figures["process_max_fds"]) >= float(figures["process_open_fds"]) > 0


async def test_several_requests_on_one_connection(port: int) -> None:
    one = "GET /hello/?who=a HTTP/1.1\r\n\r\n"
    last = "GET /hello/?who=b HTTP/1.1\r\nConnection: close\r\n\r\n"
    answer = await ask(port, one + last)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b"hello a" in answer
    assert b"hello b" in answer


async def test_a_stream_is_chunked_only_where_chunks_are_known(port: int) -> None:
    new = await ask(port, "GET /stream HTTP/1.1\r\n\r\n", enough=b"two\r\n\r\n")
    assert new.endswith(b"5\r\none\r\n\r\n5\r\ntwo\r\n\r\n")
    old = await ask(port, "GET /stream HTTP/1.0\r\n\r\n", enough=b"two\r\n")
    assert old.endswith(b"\r\n\r\none\r\ntwo\r\n")
    assert b"chunked" not in old


async def test_token() -> None:
    server = HttpServer({"/secret": hello, "/open": hello}, "t0p", frozenset({"/open"}))
    port = await server.start("127.0.0.1", 0)
    try:
        end = "\r\nConnection: close\r\n\r\n"
        assert b" 401 " in await ask(port, f"GET /secret HTTP/1.1{end}")
        assert b" 200 " in await ask(port, f"GET /secret HTTP/1.1\r\nAuthorization: Bearer t0p{end}")
        assert b" 200 " in await ask(port, f"GET /open HTTP/1.1{end}")
    finally:
        await server.close()


def test_broken_requests_are_none() -> None:
    assert parse_request(b"GET x HTTP/1.1\r\n\r\n") is None
    assert parse_request(b"\xff\xfe\r\n\r\n") is None
    assert parse_request(b"GET //[bad HTTP/1.1\r\n\r\n") is None


def test_chunks_in_any_pieces() -> None:
    raw = b"5\r\nhello\r\n1;x=y\r\n \r\n10\r\n0123456789abcdef\r\n0\r\ntrailer: 1\r\n\r\n"
    for size in range(1, len(raw) + 1):
        reader = Dechunker()
        got = b"".join(reader.feed(raw[at : at + size]) for at in range(0, len(raw), size))
        assert got == b"hello 0123456789abcdef"
        assert reader.ended
