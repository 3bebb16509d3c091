"""HTTP/2 as far as gRPC needs it: frames, headers, and the client's side of a connection.

The server's side, with its handlers and gates, is `eru.wire.http2`.
"""
