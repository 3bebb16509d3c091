"""What a core looks at in the store before it serves."""

from __future__ import annotations

from typing import Any

import pytest

from eru.core.identity import check_layout, cluster_identity
from eru.model.errors import Refused
from eru.store.contract import Put


async def test_the_data_of_a_published_core_is_left_alone(lab: Any) -> None:
    await lab.add_nodes("n1")
    await check_layout(lab.store, lab.keys)
    first = await cluster_identity(lab.store, lab.keys, lab.world)
    assert await cluster_identity(lab.store, lab.keys, lab.world) == first
    await lab.store.txn([], [Put(f"{lab.keys.root}/pod/info/main", b"{}")])
    with pytest.raises(Refused, match=r"etcd\.prefix /eru holds the data of a published core"):
        await check_layout(lab.store, lab.keys)
