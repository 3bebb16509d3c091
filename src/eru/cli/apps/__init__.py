"""The quick path to a running app: without a file, from another file, from what runs."""
