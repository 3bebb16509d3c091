"""Before a Docker Engine is started: is there one already?"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

import docker_engine
from packages import Missing


def test_a_silent_engine_is_not_taken_for_none(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    assert not docker_engine._listens(str(path))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        assert not docker_engine._listens(str(path))  # as after a crash
        silent.listen()
        assert docker_engine._listens(str(path))


def test_a_second_engine_is_never_started_beside_a_silent_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        engine.listen()
        with pytest.raises(Missing, match="does not answer"):
            docker_engine.ensure(tmp_path, answer_wait_s=0.2, hang_wait_s=0.2)
    assert not (tmp_path / "docker").exists()
