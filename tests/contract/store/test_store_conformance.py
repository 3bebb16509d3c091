"""All backends go through the same checks."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from eru.lib.world import real_world
from eru.store.conformance import CHECKS, CompactableStore, Trial
from eru.store.embedded import EmbeddedStore
from eru.store.etcd import EtcdSettings, EtcdStore
from eru.store.memory import MemoryStore
from support.etcd import EtcdCluster


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture(params=["memory", "embedded", pytest.param("etcd", marks=pytest.mark.etcd)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CompactableStore]:
    made: MemoryStore | EmbeddedStore | EtcdStore
    if request.param == "memory":
        made = MemoryStore(real_world())
    elif request.param == "embedded":
        made = await EmbeddedStore.open(tmp_path / "store", real_world())
    else:
        cluster: EtcdCluster = request.getfixturevalue("etcd")
        made = await EtcdStore.open(EtcdSettings(cluster.endpoints), real_world())
    yield made
    await made.close()


@pytest.mark.parametrize("name", CHECKS)
async def test_store(store: CompactableStore, name: str, request: pytest.FixtureRequest) -> None:
    room = re.sub(r"\W", "-", request.node.name)
    await CHECKS[name](Trial(store, f"/{room}", real_world()))
