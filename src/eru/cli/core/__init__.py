"""`eru core`."""
