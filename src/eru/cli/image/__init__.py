"""`eru image`."""
