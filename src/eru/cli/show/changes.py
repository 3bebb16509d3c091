"""What a verb would change, field by field, with the consequence of each: for `--dry-run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eru.cli.show.table import render

LIVE = "live, nothing restarts"


@dataclass(frozen=True)
class Change:
    """One field: its value `now` and `then`, and `how` it takes effect."""

    what: str
    now: str
    then: str
    how: str = LIVE

    @property
    def real(self) -> bool:
        """Whether anything changes."""
        return self.now != self.then


def table(changes: Sequence[Change]) -> str:
    """The changes; "" for none."""
    if not changes:
        return ""
    return render(
        ["FIELD", "NOW", "THEN", "HOW"], [[[each.what], [each.now], [each.then], [each.how]] for each in changes]
    )


def data(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """The same for documents."""
    return [asdict(each) for each in changes]


def words(values: Sequence[str]) -> str:
    """Several values in one cell."""
    return ", ".join(sorted(values)) or "-"
