"""What runs workloads on a node. `contract` is the door; the rest adapts real engines to it."""
