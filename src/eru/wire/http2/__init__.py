"""The server's side of HTTP/2, as far as gRPC needs it, on the event loop itself.

grpc.aio answers through a thread of its own: every message is handed to it,
and its completion handed back, which costs 70 to 90 us each and a fight for
the interpreter's lock. Here a message is a few bytes appended to what the
connection sends next (a list of 1,000 nodes: 90 ms of grpc.aio, 3 ms here).

Frames and headers are those of `eru.lib.http2`; `connection` knows one client,
`call` one call of it (what a handler sees as its context), `server` listens
and stops. Handlers are grpc's own `RpcMethodHandler`s, so that
generated servicers (health, reflection) can be added as to a grpc server.
"""

from eru.wire.http2.call import Call, Metadata
from eru.wire.http2.server import Http2Server, tls_context

__all__ = ["Call", "Http2Server", "Metadata", "tls_context"]
