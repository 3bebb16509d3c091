"""What operations say of each workload they were asked about."""

from __future__ import annotations

import msgspec

from eru.model.errors import EruError
from eru.model.nodes import Resources
from eru.model.refusals import Refusal


class Deployed(msgspec.Struct, kw_only=True):
    """One instance of a deploy, or (only `error` set) the refusal of a whole deploy.

    `publish`: network name -> `address:port,...`. `networks`: network name -> address.
    `hook`: output of the after-start hooks.
    """

    podname: str = ""
    nodename: str = ""
    id: str = ""
    name: str = ""
    error: EruError | None = None
    publish: dict[str, str] = {}
    networks: dict[str, str] = {}
    hook: bytes = b""
    resources: Resources = {}
    refusals: list[Refusal] = []

    @property
    def success(self) -> bool:
        return self.error is None and bool(self.id)


class Removed(msgspec.Struct, kw_only=True):
    """One workload of a remove. `hook`: output of hooks, or the error's text."""

    id: str
    error: EruError | None = None
    hook: bytes = b""

    @property
    def success(self) -> bool:
        return self.error is None


class Dissociated(msgspec.Struct, kw_only=True):
    """One workload of a dissociate."""

    id: str
    error: EruError | None = None


class Replaced(msgspec.Struct, kw_only=True):
    """One workload of a replace: the new one (None when nothing was made), and the fate of the old one."""

    create: Deployed | None = None
    remove: Removed
    error: EruError | None = None


class Capacity(msgspec.Struct, kw_only=True):
    """How many instances fit, per node and in total, at a store revision."""

    total: int
    nodes: dict[str, int]
    revision: int = 0


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """One planned instance."""

    nodename: str
    sequence: int
    name: str = ""
    grant: Resources = {}


class DryRun(msgspec.Struct, kw_only=True):
    """Where a deploy would land, and why not elsewhere. `error` None: everything fits."""

    revision: int
    placements: list[Placement] = []
    refusals: list[Refusal] = []
    error: EruError | None = None
    considered: int = 0
    seconds: float = 0.0
