"""Output of workloads, from the engine to the configured forwards, as published JSON records."""
