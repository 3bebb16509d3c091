"""What runs on every node: status, health checks, heartbeat, logs, metrics, HTTP."""
