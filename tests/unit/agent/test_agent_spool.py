"""The spool against a model of it: any order of operations, also over restarts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from eru.agent.logs.spool import Spool


@pytest.mark.parametrize("seed", range(60))
def test_any_order_of_operations(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    spool, waiting, ahead = Spool(tmp_path / "s", 1 << 20, segment_max=300), b"", 0
    for number in range(chance.randint(1, 80)):
        record = b"%d\n" % number * chance.randint(1, 9)
        step = chance.choice(["append", "append", "append", "read", "advance", "prepend", "restart"])
        if step == "append":
            assert spool.append(record)
            waiting += record
        elif step == "read":
            got = spool.read(chance.choice([5, 50, 1000]))
            assert waiting[ahead:].startswith(got)
            assert got or ahead == len(waiting)
            ahead += len(got)
        elif step == "advance":
            done = waiting.rfind(b"\n", 0, chance.randint(0, ahead)) + 1
            if done:
                spool.advance(done)
                waiting, ahead = waiting[done:], ahead - done
        elif step == "prepend":
            assert spool.prepend(record)
            waiting, ahead = record + waiting, 0
        else:
            spool.close()
            spool, ahead = Spool(tmp_path / "s", 1 << 20, segment_max=300), 0
        assert spool.size == len(waiting)
    spool.close()


def test_full_means_no(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10)
    assert spool.append(b"12345\n")
    assert not spool.append(b"67890\n")
    assert spool.read(100) == b"12345\n"
    spool.advance(6)
    assert spool.append(b"67890\n")
