"""From a node to its engine: TLS material is read from the store only when the engine is not known yet."""

from __future__ import annotations

from eru.core.fleet import Fleet
from eru.core.view import NodeView
from eru.engine.contract import Engine
from eru.engine.pool import EnginePool
from eru.model.errors import NotFound
from eru.model.nodes import Node, NodeTLS
from eru.store.contract import Store
from eru.store.keys import Keys


class NodeEngines:
    """The engines of the nodes in the live view; the pool belongs to the caller."""

    def __init__(self, pool: EnginePool, fleet: Fleet, store: Store, keys: Keys) -> None:
        self._pool = pool
        self._fleet = fleet
        self._store = store
        self._keys = keys

    async def of(self, node: Node | NodeView | str) -> Engine:
        """The node's engine. One that does not answer is returned too: its calls say why.

        Raises NotFound for an unknown node, StoreError when its TLS material cannot be read.
        """
        if isinstance(node, str):
            node = await self._fleet.node_surely(node)
        record = _record(node)
        known = self._pool.known(record.name, record.endpoint)
        if known is not None:
            return known
        return await self._pool.get(record.name, record.endpoint, await self._tls(record))

    async def _tls(self, node: Node) -> NodeTLS | None:
        if not node.has_tls:
            return None
        item = await self._store.get(self._keys.node_tls(node.name))
        return NodeTLS.decode(item.value) if item else None


def _record(node: Node | NodeView) -> Node:
    if isinstance(node, Node):
        return node
    if node.node is None:
        raise NotFound(f"node {node.name!r} does not exist")
    return node.node
