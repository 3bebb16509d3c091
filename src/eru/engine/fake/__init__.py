"""An engine that runs nothing: for simulation, benchmarks and trying Eru out.

It keeps the whole contract in memory: containers with a life, logs, files,
networks and images. Knobs in the endpoint make it slow, failing or forgetful:
see `knobs`. `mock://` is accepted as another spelling of `fake://`.

    fake://n1?cpu=8&memory=16G&create_ms=5&start_ms=80&fail_start=0.01

What lives on a node is kept in a `FakeCluster` under the endpoint's host
name, so all handles of one process see the same containers, and a handle that
was closed and opened again still does.
"""

from eru.engine.fake.engine import FakeEngine
from eru.engine.fake.knobs import Knobs, parse_endpoint
from eru.engine.fake.node import DEFAULT_CLUSTER, FakeCluster, FakeNode

__all__ = ["DEFAULT_CLUSTER", "FakeCluster", "FakeEngine", "FakeNode", "Knobs", "parse_endpoint"]
