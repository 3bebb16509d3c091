"""Everything that can go wrong, as one tree.

EruError
├── InvalidInput        the request itself is wrong; retrying it cannot help
├── NotFound            a named thing does not exist
├── AlreadyExists       a name is taken
├── Refused             the request is right but the state forbids it (pod not empty, ...)
│   └── NoCapacity      no node, or not enough nodes, can take it; carries the reasons
├── Conflict            somebody else changed the same thing first; try again
├── Expired             a deadline passed
├── RemoteError         a core answered one of our clients with an error
│   └── CoreUnreachable     no core answered at all; nothing was changed
├── EngineError
│   ├── EngineUnreachable   no answer from the node's engine; may come back
│   ├── EngineRefused       the engine said no; its own words are in the message
│   ├── EngineMissing       the object is not there (container, image, network)
│   ├── EngineOutcomeUnknown  the answer got lost: done or not, nobody knows
│   └── NotSupported        this kind of engine cannot do it
└── StoreError
    ├── StoreUnavailable    nothing was changed; may come back
    ├── OutcomeUnknown      the answer to a transaction got lost: done or not, nobody knows
    ├── LeaseLost           the lease has ended
    └── Compacted           a watch asked for revisions that are gone

Each says by its type whether a retry can help (`temporary`). Adapters
translate foreign exceptions at their edge, always with `from`. Only
`wire.status` turns these into numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from eru.model.refusals import Refusal


class EruError(Exception):
    """Base of all; `str(error)` is one sentence fit for a user."""

    temporary = False


class InvalidInput(EruError):
    """The request is wrong. Say the field, the value and what was expected."""


class InvalidRawArgs(InvalidInput):
    """Arguments for the engine that cannot be read: the instances fail, not the call, as clients expect."""


class NotFound(EruError):
    """A named thing does not exist."""


class AlreadyExists(EruError):
    """A name is taken."""


class Refused(EruError):
    """The state forbids it."""


class NoCapacity(Refused):
    """Not enough room, with the reason for every node that was looked at."""

    def __init__(self, message: str, refusals: Sequence[Refusal] = ()) -> None:
        super().__init__(message)
        self.refusals = list(refusals)


class Conflict(EruError):
    """Lost a race."""

    temporary = True


class Expired(EruError):
    """A deadline passed."""

    temporary = True


class RemoteError(EruError):
    """A core answered a call with an error, in its words.

    `rpc` is the call's name, `code` the numeric status (0..16, or the
    published numbers from 1001 on), `kind` the name of the core's own error
    class, or "" when the core does not tell. `refusals`: why each node was
    ruled out, when the core told.
    """

    def __init__(
        self, message: str, *, rpc: str = "", code: int = 2, kind: str = "", refusals: Sequence[Refusal] = ()
    ) -> None:
        super().__init__(message)
        self.rpc = rpc
        self.code = code
        self.kind = kind
        self.refusals = list(refusals)


class CoreUnreachable(RemoteError):
    """No core answered; nothing was changed."""

    temporary = True


class EngineError(EruError):
    """Something about a node's engine."""


class EngineUnreachable(EngineError):
    """No answer; nothing was changed."""

    temporary = True


class EngineRefused(EngineError):
    """The engine said no."""


class EngineMissing(EngineError):
    """The engine does not have the object."""


class EngineOutcomeUnknown(EngineError):
    """The answer got lost after the request was sent."""

    temporary = True


class NotSupported(EngineError):
    """This engine lacks the ability."""


class StoreError(EruError):
    """Something about the store."""


class StoreUnavailable(StoreError):
    """No answer before anything was sent, or an answer that nothing was changed."""

    temporary = True


class OutcomeUnknown(StoreError):
    """A transaction was sent and its answer got lost.

    Never retried blindly: read back a key that the transaction would have
    written (`core.commit` does this for every operation).
    """

    temporary = True


class LeaseLost(StoreError):
    """The lease has ended; everything attached to it is gone."""


class Compacted(StoreError):
    """Watch events from this revision on are no longer kept; read anew, then watch."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"events up to revision {revision} are no longer kept")
        self.revision = revision
