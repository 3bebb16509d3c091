"""Opens a store from its address; the only place that names all backends."""

from __future__ import annotations

from pathlib import Path

from eru.lib.world import World
from eru.model.errors import InvalidInput
from eru.store.contract import Store
from eru.store.embedded import EmbeddedStore
from eru.store.etcd import EtcdSettings, EtcdStore
from eru.store.memory import MemoryStore

_FORMS = "memory://, embedded:<directory>, etcd://host:port,host:port"


async def open_store(where: str | EtcdSettings, world: World) -> Store:
    """Open the store at `where`, ready to use.

    `memory://`; `embedded:<directory>`; `etcd://host:port,...` without TLS and
    login, or EtcdSettings with them. Raises InvalidInput for an address or a
    setting that makes no sense, StoreError when the store cannot be opened.
    """
    if isinstance(where, EtcdSettings):
        return await EtcdStore.open(where, world)
    scheme, _, rest = where.partition(":")
    if scheme == "memory" and rest in ("", "//"):
        return MemoryStore(world)
    if scheme == "embedded" and rest:
        return await EmbeddedStore.open(_directory(rest), world)
    if scheme == "etcd" and rest.startswith("//"):
        endpoints = tuple(part.strip() for part in rest.removeprefix("//").split(",") if part.strip())
        return await EtcdStore.open(EtcdSettings(endpoints), world)
    raise InvalidInput(f"store address {where!r} is unknown, expected one of {_FORMS}")


def _directory(text: str) -> Path:
    """`/var/lib/eru`, `./data` and `///var/lib/eru` (as in a URL) all name a directory."""
    return Path(text.removeprefix("//") if text.startswith("///") else text).expanduser()
