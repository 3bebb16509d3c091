"""`eru network`."""
