"""Eru: schedules and orchestrates workloads over many machines.

The map of the rooms and the direction of the arrows between them is in
ARCHITECTURE.md.
"""

__version__ = "0.1.0"
