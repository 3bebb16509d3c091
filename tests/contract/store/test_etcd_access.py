"""TLS, client certificates, users and expiring tokens on a real etcd."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from eru.lib.world import real_world
from eru.model.errors import InvalidInput, StoreError, StoreUnavailable
from eru.store.contract import Put
from eru.store.etcd import EtcdSettings, EtcdStore
from support.etcd import Certificates, EtcdCluster

pytestmark = pytest.mark.etcd

WORLD = real_world()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[EtcdCluster]:
    """TLS with client certificates, and users: root (by certificate or password), eru (only under /eru/)."""
    flags = ["--auth-token-ttl", "1"]
    with EtcdCluster(tmp_path_factory.mktemp("etcd"), 1, certificates, True, flags) as cluster:
        cluster.etcdctl("user", "add", "root:root-secret")
        cluster.etcdctl("user", "add", "eru:eru-secret")
        cluster.etcdctl("role", "add", "eru")
        cluster.etcdctl("role", "grant-permission", "eru", "readwrite", "--prefix=true", "/eru/")
        cluster.etcdctl("user", "grant-role", "eru", "eru")
        cluster.etcdctl("user", "grant-role", "root", "root")
        cluster.etcdctl("auth", "enable")
        yield cluster


def settings(
    cluster: EtcdCluster,
    certificates: Certificates,
    user: str,
    name: str = "",
    word: str = "",
    timeout_s: float = 30.0,
) -> EtcdSettings:
    cert, key = certificates.issue(user, user)
    return EtcdSettings(
        cluster.endpoints, certificates.ca, cert, key, username=name, password=word, request_timeout_s=timeout_s
    )


async def test_a_client_certificate_is_a_user(secured: EtcdCluster, certificates: Certificates) -> None:
    store = await EtcdStore.open(settings(secured, certificates, "eru"), WORLD)
    assert (await store.txn([], [Put("/eru/k", b"1")])).succeeded
    with pytest.raises(StoreError, match="does not permit"):
        await store.txn([], [Put("/other/k", b"1")])
    with pytest.raises(StoreError, match="does not permit"):
        await store.get("/other/k")
    watch = await store.watch("/other/", 1)
    with pytest.raises(StoreError, match="does not permit to watch '/other/'"):
        await asyncio.wait_for(anext(aiter(watch)), 60)
    watch = await store.watch("/eru/", 1)
    await watch.request_progress()
    assert [event.item.key for event in (await anext(aiter(watch))).events] == ["/eru/k"]
    await store.close()


async def test_a_token_that_has_expired_is_renewed(secured: EtcdCluster, certificates: Certificates) -> None:
    store = await EtcdStore.open(settings(secured, certificates, "nobody", "eru", "eru-secret"), WORLD)
    lease = await store.grant(60)
    revision = (await store.txn([], [Put("/eru/token", b"1", lease)])).revision
    watch = await store.watch("/eru/", revision)
    for _ in range(2):
        await asyncio.sleep(2.2)  # the token lives for 1 s; etcd looks every second
        results = await asyncio.gather(
            *(store.txn([], [Put(f"/eru/token/{number}", b"2")]) for number in range(20)), store.keep_alive(lease)
        )
        assert len(results) == 21
    item = await store.get("/eru/token")
    assert item is not None
    assert (await asyncio.wait_for(anext(aiter(watch)), 60)).events[0].item.key == "/eru/token"
    await store.revoke(lease)
    await store.close()


async def test_wrong_or_missing_password(secured: EtcdCluster, certificates: Certificates) -> None:
    with pytest.raises(StoreError, match="refused the user name or password"):
        await EtcdStore.open(settings(secured, certificates, "nobody", "eru", "wrong"), WORLD)


async def test_a_user_that_etcd_asks_for_and_does_not_get(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path) as cluster:
        early = await EtcdStore.open(EtcdSettings(cluster.endpoints, username="eru", password="any"), WORLD)
        assert await early.get("/k") is None  # etcd without users lets everybody in
        await early.close()
        cluster.etcdctl("user", "add", "root:secret")
        cluster.etcdctl("user", "grant-role", "root", "root")
        cluster.etcdctl("auth", "enable")
        with pytest.raises(StoreError, match="asks for a user: configure a user name and password"):
            await EtcdStore.open(EtcdSettings(cluster.endpoints), WORLD)


async def test_a_server_of_another_authority_is_not_trusted(secured: EtcdCluster, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:\d+: CERTIFICATE_VERIFY_FAILED"):
        await EtcdStore.open(settings(secured, Certificates(tmp_path), "eru", timeout_s=2.0), WORLD)


async def test_certificates_that_cannot_be_used_are_told(certificates: Certificates, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing of the kind")
    cert, _ = certificates.issue("eru", "eru")
    _, key = certificates.issue("other", "other")
    with pytest.raises(InvalidInput, match=r"nonsense\.pem is not a certificate in PEM form"):
        await EtcdStore.open(EtcdSettings(("https://127.0.0.1:1",), nonsense), WORLD)
    with pytest.raises(InvalidInput, match="cannot be used together"):
        await EtcdStore.open(EtcdSettings(("https://127.0.0.1:1",), certificates.ca, cert, key), WORLD)
    with pytest.raises(InvalidInput, match="cannot be used together"):
        await EtcdStore.open(EtcdSettings(("https://127.0.0.1:1",), certificates.ca, nonsense, key), WORLD)


async def test_plain_text_to_a_tls_server(secured: EtcdCluster) -> None:
    plain = tuple(endpoint.removeprefix("https://") for endpoint in secured.endpoints)
    with pytest.raises(StoreUnavailable, match=r"no etcd member answered in 1 s \(endpoints 127"):
        await EtcdStore.open(EtcdSettings(plain, request_timeout_s=1.0), WORLD)
