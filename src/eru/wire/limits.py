"""Bounds of the wire, each with its unit."""

from __future__ import annotations

MESSAGE_BYTES_MAX = 20 * 1024 * 1024  # one received message, the published default
ANSWER_BYTES_MAX = 256 * 1024 * 1024  # one message our clients accept (published cores send unbounded lists)
STREAM_WINDOW_BYTES = 1024 * 1024  # of one request that may be on the way before its handler takes some
CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024  # the same for all requests of one connection
FRAME_BYTES_MAX = 64 * 1024  # one HTTP/2 frame that a client may send
STREAMS_PER_CONNECTION_MAX = 100  # concurrent calls of one client connection, the published default
METADATA_BYTES_MAX = 64 * 1024  # request metadata of one call
KEEPALIVE_S = 360.0  # published clients ping this often; faster pings are cut off by published cores
SERVER_KEEPALIVE_S = 30.0  # a silent connection is probed this often
KEEPALIVE_TIMEOUT_S = 20.0
PING_INTERVAL_MIN_S = 5.0  # a server of ours tolerates pings as often as this
CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 60.0  # default for unary calls of our clients
CALLS_MAX = 10_000  # calls under way in one core, watchers included
STALL_S = 60.0  # a client that takes no message for this long is cut off
CALL_LIMIT_S = 300.0  # unary calls end by then, whatever happens
DRAIN_S = 30.0  # calls under way may finish for this long at shutdown
FAREWELL_S = 2.0  # for the last words to calls that did not finish in time
LINGER_S = 1.0  # a finished connection waits this long for its client to close it first
