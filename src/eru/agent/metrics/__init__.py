"""Figures of workloads from the kernel, and their ways out: Prometheus text and statsd."""
