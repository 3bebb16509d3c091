"""Clusters of one machine for the tests, removed whatever happens."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.agent_node import TcpSink
from support.user_cluster import Cluster


@pytest.fixture
def blank(docker_endpoint: str, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that is not set up yet; whatever the test made of it is removed."""
    state = tmp_path / f"e2e{os.getpid()}{tmp_path.name[-20:]}"
    cluster = Cluster(state, docker_endpoint)
    yield cluster
    if state.exists():
        done = cluster.down("--purge")
        assert done.returncode == 0, done.stderr


@pytest.fixture(params=["embedded", "etcd"])
def cluster(request: pytest.FixtureRequest, blank: Cluster) -> Cluster:
    """A cluster that runs, on each of the two stores."""
    if request.param == "etcd":
        blank.etcd = request.getfixturevalue("etcd_endpoint")
    done = blank.up()
    assert done.returncode == 0, done.stderr
    return blank


@pytest.fixture
async def sink() -> AsyncIterator[TcpSink]:
    """A receiver of an agent's log records."""
    sink = TcpSink()
    await sink.start()
    yield sink
    await sink.stop()
