"""What a node can run out of. Each kind is pure: records in, records out. Imports only `model`."""
