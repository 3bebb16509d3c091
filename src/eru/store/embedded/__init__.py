"""The store in a file of this machine: durable, crash-safe, no server to install.

`files` knows the file and its format, `writer` and `reader` talk to it in
their own threads, `backend` offers the contract.
"""

from eru.store.embedded.backend import EmbeddedStore, History

__all__ = ["EmbeddedStore", "History"]
