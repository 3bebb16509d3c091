"""`eru pod`."""
