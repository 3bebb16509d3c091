"""The log in a file: turned over, and the old ones removed by number and by age."""

from __future__ import annotations

import os
from pathlib import Path

from eru.lib.log import rotating

DAY_S = 86_400


def test_turned_over_and_aged(tmp_path: Path) -> None:
    path = tmp_path / "core.log"
    for number, days in ((1, 1), (2, 40), (3, 5)):
        kept = tmp_path / f"core.log.{number}"
        kept.write_text("old\n")
        then = kept.stat().st_mtime - days * DAY_S
        os.utime(kept, (then, then))
    stream = rotating(str(path), 1, 3, days=28)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["core.log", "core.log.1", "core.log.3"]
    stream.write("x" * 1_000_000 + "\n")
    stream.write("y" * 1_000_000 + "\n")
    assert path.read_text().startswith("y")
    assert (tmp_path / "core.log.1").read_text().startswith("x")
    assert (tmp_path / "core.log.2").read_text() == "old\n"


def test_any_age(tmp_path: Path) -> None:
    kept = tmp_path / "core.log.1"
    kept.write_text("old\n")
    os.utime(kept, (0, 0))
    rotating(str(tmp_path / "core.log"), 1, 3, days=0)
    assert kept.exists()
