"""`eru workload` and `eru lambda`."""
