"""Bounds of the wire, each with its unit."""

from __future__ import annotations

MESSAGE_BYTES_MAX = 20 * 1024 * 1024  # one received message, the published default
ANSWER_BYTES_MAX = 256 * 1024 * 1024  # one message our clients accept (published cores send unbounded lists)
STREAMS_PER_CONNECTION_MAX = 100  # concurrent calls of one client connection, the published default
METADATA_BYTES_MAX = 64 * 1024  # request metadata of one call
KEEPALIVE_S = 360.0  # published clients ping this often; faster pings are cut off by published cores
KEEPALIVE_TIMEOUT_S = 20.0
PING_INTERVAL_MIN_S = 5.0  # a server of ours tolerates pings as often as this
CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 60.0  # default for unary calls of our clients
