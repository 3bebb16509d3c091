"""Storage: bytes of a node's disk, volumes that workloads are placed on, operations and bytes per second of disks.

`volumes` reads the text form of a volume, `request` what a workload asks for,
`node` what a node has; `place` puts volumes on a node, `table` counts for all
nodes, `kind` answers the core.
"""

from eru.resource.storage.kind import StorageKind

__all__ = ["StorageKind"]
