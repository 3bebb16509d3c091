"""Running cores, as they register themselves."""

from __future__ import annotations

from eru.model.stored import Stored


class Registration(Stored):
    """One running core process; present under its lease. `address` is what clients connect to."""

    id: str
    address: str = ""
    version: str = ""
    started_at: float = 0.0
