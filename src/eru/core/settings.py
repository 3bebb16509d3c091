"""What one core process is told: identity, waiting times and bounds, each with its unit.

The composition root makes this from the configuration file; a simulation
makes it by hand.
"""

from __future__ import annotations

import msgspec


class CoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults fit a cluster; nothing here is read from anywhere else."""

    identifier: str = "eru"  # label eru.coreid on what this cluster creates; equal on all its cores
    address: str = ""  # host:port that clients of this core connect to
    version: str = ""

    # Waiting times, seconds.
    session_ttl_s: int = 10  # a core that is silent for this long has died
    operation_s: float = 300.0  # whole background steps: remap, settle, asynchronous lambda
    engine_call_s: float = 60.0  # create, start, inspect, update
    engine_slow_call_s: float = 300.0  # pull, stop, remove, hooks
    hold_wait_s: float = 30.0  # wait for another operation on the same workload
    fresh_wait_s: float = 10.0  # wait for the live view to reach a revision
    list_s: float = 10.0  # default bound of one listing
    recovery_every_s: float = 5.0  # how often left-over intents are looked for
    recovery_settle_s: float = 3.0  # between two looks before a create is taken as never done
    orphan_round_s: float = 600.0  # one look at every node for what an engine created much too late
    watch_retry_s: float = 1.0
    death_damping_s: float = 3.0  # a heartbeat must be gone this long before workloads are marked down
    push_interval_s: float = 15.0  # service discovery

    # Bounds.
    store_parallel_max: int = 2  # transactions of this core in flight; what waits meanwhile is merged into the next
    engine_parallel_max: int = 1024  # engine calls of one operation in flight
    engine_node_parallel_max: int = 64  # of those, on one node
    deploy_count_max: int = 1_000_000  # instances of one request
    replan_rounds_max: int = 16  # lost races before a deploy gives up
    sweep_parallel_max: int = 64  # left-over intents worked on at a time
    events_kept_max: int = 20_000  # newest events of this core, in memory
    subscriber_queue_max: int = 10_000  # events waiting for one slow stream before it is cut off
    hook_output_bytes_max: int = 1 << 20  # kept of one hook's output
    copy_file_bytes_max: int = 64 << 20  # one file carried over by replace

    use_remap: bool = True  # keep unbound workloads on the free cores
