"""`eru node`."""
