"""The wire: proto sources, generated stubs, pb <-> model, status numbers, auth, channels."""
