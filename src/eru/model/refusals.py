"""Why a node takes no (further) instance, as data."""

from __future__ import annotations

import enum

import msgspec


class Reason(str, enum.Enum):
    """The ways a node can be ruled out, in the order they are checked."""

    EXCLUDED = "excluded"  # named in the filter's excludes
    POD = "pod"  # belongs to another pod
    LABEL = "label"  # lacks a label asked for
    BYPASS = "bypass"  # taken out of scheduling by its operator
    DOWN = "down"  # its heartbeat is missing
    RESOURCE = "resource"  # too little of one dimension
    LIMIT = "limit"  # has room, but the strategy or its limit allows no more


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node, one reason.

    For `Reason.RESOURCE`: `dimension` names it as `<kind>.<what>` (for
    example `cpumem.memory`), `wanted` and `free` are in its own unit (bytes,
    cores, pieces, count).
    """

    nodename: str
    reason: Reason
    dimension: str = ""
    wanted: float = 0
    free: float = 0
    detail: str = ""
