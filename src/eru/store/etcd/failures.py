"""What a failed call means: was it done, can another member do it, what does the user read.

Only a few failures are known to come before anything was done; whatever is
not on that list counts as "nobody knows".
"""

from __future__ import annotations

import enum
import re

import grpc
from grpc.aio import AioRpcError

from eru.model.errors import Compacted, LeaseLost, StoreError, StoreUnavailable


class Failure(enum.Enum):
    """What to do about a failed call."""

    NOT_DONE = "not done"  # certainly without effect; another try may help
    UNKNOWN = "unknown"  # perhaps done
    LOGIN = "login"  # the token is not valid any more; without effect
    FINAL = "final"  # refused; trying again gives the same


# gRPC reports this when it found no connection to send the call on.
_NOT_SENT = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "errors resolving",
    "DNS resolution",
)
# etcd answers these before it proposes anything to the cluster.
_NOT_PROPOSED = ("etcdserver: no leader", "etcdserver: too many requests", "raft proposal dropped")
_LOGIN = ("invalid auth token", "auth: revision in header is old", "revision of auth store is old")

_FINAL_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}


def judge(error: AioRpcError) -> Failure:
    """Tell what a failed call means."""
    details = error.details() or ""
    if any(text in details for text in _LOGIN):
        return Failure.LOGIN
    if any(text in details for text in _NOT_SENT + _NOT_PROPOSED):
        return Failure.NOT_DONE
    return Failure.FINAL if error.code() in _FINAL_CODES else Failure.UNKNOWN


def lease_is_gone(error: AioRpcError) -> bool:
    """The lease named in the call does not exist."""
    return "requested lease not found" in (error.details() or "")


def too_large_to_receive(error: AioRpcError) -> bool:
    """The answer was over MESSAGE_BYTES_MAX."""
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in (error.details() or "")


def explain(error: AioRpcError, names: str) -> StoreError | ValueError:
    """The error to raise for a refusal. `names`: the endpoints, for the message."""
    details = error.details() or error.code().name
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
    if error.code() is grpc.StatusCode.PERMISSION_DENIED:
        return StoreError(f"etcd at {names} does not permit this: give the user a role on the configured prefix")
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return StoreError(f"what answers at {names} does not speak etcd's v3 protocol ({details}): check the endpoints")
    return StoreError(f"etcd at {names}: {details}")


def brief(error: AioRpcError | TimeoutError) -> str:
    """The shortest useful text of a passing failure."""
    if isinstance(error, TimeoutError):
        return "no connection"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    details = error.details() or error.code().name
    found = re.search(
        r"(Connection refused|CERTIFICATE_VERIFY_FAILED[^;:]*|Ssl handshake failed|no leader|lookup failed for[^\]]*)",
        details,
    )
    return found.group(1) if found else details[:160]
