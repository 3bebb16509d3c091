"""statsd: a changed node is told soon, and a receiver that does not exist stops nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from eru.core import statsd


class Receiver(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.text = b""

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.text += data + b"\n"


async def test_a_new_node_is_told_before_its_turn(lab: Any) -> None:
    loop = asyncio.get_running_loop()
    transport, receiver = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    address = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    pusher = statsd.Pusher(lab.core, address, every_s=3600, look_s=0.02)
    pushing = asyncio.create_task(pusher.run())
    await lab.add_nodes("new.one")
    await lab.until(lambda: b"pod.node.new_one.up:1|g" in receiver.text)
    assert b"core.node.new_one.memory:1073741824|g" in receiver.text
    pushing.cancel()
    transport.close()


async def test_a_name_that_nobody_knows_is_counted_and_logged_once(lab: Any) -> None:
    said: list[str] = []

    def keep(logger: object, method: str, event: dict[str, Any]) -> dict[str, Any]:
        said.append(event["event"])
        raise structlog.DropEvent

    log = structlog.wrap_logger(structlog.PrintLogger(), processors=[keep], wrapper_class=structlog.BoundLogger)
    await lab.add_nodes("n1")
    pusher = statsd.Pusher(lab.core, "no-such-host.invalid:8125", every_s=0.01, log=log)
    pushing = asyncio.create_task(pusher.run())

    def failures() -> float:
        return next(sample.value for sample in next(iter(pusher.failures.collect())).samples)

    await lab.until(lambda: failures() >= 3)
    assert said == ["statsd cannot be reached"]
    assert not pushing.done()
    pushing.cancel()
