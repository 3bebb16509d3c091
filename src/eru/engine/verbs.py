"""The names of an engine's calls by shape, for what wraps or stands in for an engine."""

from __future__ import annotations

# Calls that change something: when their answer gets lost, the outcome is unknown.
EFFECTS = frozenset(
    [
        "create",
        "start",
        "stop",
        "remove",
        "suspend",
        "resume",
        "update",
        "exec",
        "attach",
        "send_file",
        "send_stream",
        "connect_network",
        "disconnect_network",
        "commit",
        "tag",
        "remove_image",
        "prune_images",
        "prune_build_cache",
        "raw",
    ]
)

# Calls that are awaited.
COROUTINES = EFFECTS | {
    "info",
    "ping",
    "inspect",
    "find",
    "figures",
    "wait",
    "networks",
    "images",
    "local_digests",
    "remote_digest",
}

# Calls that are iterated over.
STREAMS = frozenset(["logs", "read_archive", "pull", "push", "build", "events"])
