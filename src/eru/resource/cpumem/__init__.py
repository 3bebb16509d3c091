"""CPU and memory: cores in pieces that can be bound, memory that can run out, NUMA nodes.

`kind` answers the core's questions; `request` reads what a workload asks for,
`noderequest` what a node has; `cores` decides which cores an instance gets,
`numa` does it per NUMA node; `table` counts for all nodes at once.
"""

from eru.resource.cpumem.kind import CpumemKind

__all__ = ["CpumemKind"]
