"""Clusters of one machine for the tests, removed whatever happens."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.agent_node import NODE, AgentProcess, RecordingCore, TcpSink, Workloads, recording_core
from support.user_cluster import Cluster
from support.verbs import Verbs, verbs_core


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


@pytest.fixture(scope="session")
def plain_core(docker_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verbs]:
    """A core with one node, for all suites of verbs that want nothing special of it."""
    with verbs_core(tmp_path_factory.mktemp("verbs"), docker_endpoint) as verbs:
        yield verbs


@pytest.fixture
def verbs(plain_core: Verbs) -> Iterator[Verbs]:
    """That core; nothing is left on it for the next test."""
    yield plain_core
    plain_core.remove_all()
    assert plain_core.containers() == set()
    usage = plain_core.usage()
    assert usage["memory"] == usage["cpu"] == 0


# The suites of the agent. A module that defines `NODE` has a node of its own: nothing of others is counted there.


def _node(request: pytest.FixtureRequest) -> str:
    return str(getattr(request.module, "NODE", NODE))


@pytest.fixture
async def core(request: pytest.FixtureRequest) -> AsyncIterator[RecordingCore]:
    """A core that knows the node and records what it is told."""
    async with recording_core() as core:
        core.known = {_node(request)}
        yield core


@pytest.fixture
def workloads(request: pytest.FixtureRequest, docker_endpoint: str) -> Iterator[Workloads]:
    """Containers on the node, removed at the end."""
    made = Workloads(docker_endpoint, _node(request))
    yield made
    made.clean()


@pytest.fixture
async def agent(
    request: pytest.FixtureRequest, core: RecordingCore, docker_endpoint: str, tmp_path: Path
) -> AsyncIterator[AgentProcess]:
    """The agent beside the machine's Docker, not started yet; killed at the end."""
    process = AgentProcess(tmp_path, core.port, docker_endpoint, hostname=_node(request))
    yield process
    await process.end(signal.SIGKILL)
