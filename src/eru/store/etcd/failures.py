"""What a failed call means: was it done, can another member do it, what does the user read.

Only a few failures are known to come before anything was done; whatever is
not on that list counts as "nobody knows".
"""

from __future__ import annotations

import enum

from eru.lib.http2.failures import Code, RpcFailed
from eru.model.errors import Compacted, LeaseLost, StoreError, StoreUnavailable

BRIEF_MAX = 160  # characters of one member's failure in a message


class Failure(enum.Enum):
    """What to do about a failed call."""

    NOT_DONE = "not done"  # certainly without effect; another try may help
    UNKNOWN = "unknown"  # perhaps done
    LOGIN = "login"  # the token is not valid any more; without effect
    FINAL = "final"  # refused; trying again gives the same


# etcd answers these before it proposes anything to the cluster.
_NOT_PROPOSED = ("etcdserver: no leader", "etcdserver: too many requests", "raft proposal dropped")
_LOGIN = ("invalid auth token", "auth: revision in header is old", "revision of auth store is old")

_FINAL_CODES = {
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.OUT_OF_RANGE,
    Code.FAILED_PRECONDITION,
    Code.PERMISSION_DENIED,
    Code.RESOURCE_EXHAUSTED,
    Code.UNAUTHENTICATED,
    Code.UNIMPLEMENTED,
}


def judge(error: RpcFailed) -> Failure:
    """Tell what a failed call means."""
    if any(text in error.details for text in _LOGIN):
        return Failure.LOGIN
    if not error.sent or any(text in error.details for text in _NOT_PROPOSED):
        return Failure.NOT_DONE
    return Failure.FINAL if error.code in _FINAL_CODES else Failure.UNKNOWN


def lease_is_gone(error: RpcFailed) -> bool:
    """The lease named in the call does not exist."""
    return "requested lease not found" in error.details


def too_large_to_receive(error: RpcFailed) -> bool:
    """The answer was over MESSAGE_BYTES_MAX."""
    return error.code is Code.RESOURCE_EXHAUSTED and "message larger than max" in error.details


def explain(error: RpcFailed, names: str) -> StoreError | ValueError:
    """The error to raise for a refusal. `names`: the endpoints, for the message."""
    details = error.details or error.code.name
    if lease_is_gone(error):
        return LeaseLost("the lease has ended")
    if "required revision has been compacted" in details:
        return Compacted(0)
    if "required revision is a future revision" in details:
        return ValueError("the revision asked for is in the future")
    if "database space exceeded" in details:
        return StoreUnavailable(
            f"etcd at {names} is full: raise its --quota-backend-bytes or compact and defragment it,"
            " then clear the alarm with etcdctl alarm disarm"
        )
    if "user name is empty" in details:
        return StoreError(f"etcd at {names} asks for a user: configure a user name and password, or a certificate")
    if "authentication failed" in details:
        return StoreError(f"etcd at {names} refused the user name or password")
    if error.code is Code.PERMISSION_DENIED:
        return StoreError(f"etcd at {names} does not permit this: give the user a role on the configured prefix")
    if error.code is Code.UNIMPLEMENTED:
        return StoreError(f"what answers at {names} does not speak etcd's v3 protocol ({details}): check the endpoints")
    return StoreError(f"etcd at {names}: {details}")


def brief(error: RpcFailed) -> str:
    """The shortest useful text of a passing failure."""
    return (error.details or error.code.name)[:BRIEF_MAX]
