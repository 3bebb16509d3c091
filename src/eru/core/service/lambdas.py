"""Run and wait: workloads that live for one command."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import msgspec

from eru.core.app import Core
from eru.core.ops import run
from eru.core.ops.execute import Output
from eru.core.service.inside import output_message
from eru.model.errors import InvalidInput
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.convert.deploy import deploy_spec
from eru.wire.routes import Call, Route, both
from eru.wire.status import sentence_of

TIMEOUT_S_MAX = 30 * 86400  # of an asynchronous run


async def run_request(requests: AsyncIterator[pb.RunAndWaitOptions], *, tty: bool = True) -> run.RunRequest:
    """What the first message asks for. `tty` false: input is data, without a terminal. Raises InvalidInput."""
    async for first in requests:
        if not first.HasField("deploy_options"):
            raise InvalidInput("no deploy options: the first message has to carry them")
        if not 0 <= first.async_timeout <= TIMEOUT_S_MAX:
            raise InvalidInput(f"async_timeout {first.async_timeout} is not between 0 and {TIMEOUT_S_MAX} seconds")
        return run.RunRequest(
            spec=msgspec.structs.replace(deploy_spec(first.deploy_options, lambda_=True), tty=tty),
            asynchronous=getattr(first, "async"),  # a word of this language
            timeout_s=float(first.async_timeout),
        )
    raise InvalidInput("no deploy options: the stream ended before its first message")


def _failure(id: str, text: str) -> pb.AttachWorkloadMessage:
    return pb.AttachWorkloadMessage(workload_id=id, data=text.encode(), std_stream_type=pb.ERUERROR)


async def _messages(said: AsyncIterator[run.Said]) -> AsyncGenerator[pb.AttachWorkloadMessage, None]:
    """Ids first, an empty one for each instance that was not made; then why, then output."""
    failures: list[pb.AttachWorkloadMessage] = []
    async for one in said:
        if isinstance(one, run.Started):
            yield pb.AttachWorkloadMessage(workload_id=one.id, std_stream_type=pb.TYPEWORKLOADID)
            if one.error is not None:
                failures.append(_failure("", f"Create workload failed: {sentence_of(one.error)}"))
            continue
        while failures:
            yield failures.pop(0)
        yield output_message(one) if isinstance(one, Output) else _failure(one.id, one.error)
    for failure in failures:
        yield failure


def routes(core: Core) -> list[Route]:
    async def run_and_wait(
        requests: AsyncIterator[pb.RunAndWaitOptions], call: Call
    ) -> AsyncGenerator[pb.AttachWorkloadMessage, None]:
        request = await run_request(requests, tty=call.tty)
        inputs = (later.cmd async for later in requests)
        async with (
            aclosing(run.run_and_wait(core, request, inputs)) as said,
            aclosing(_messages(said)) as messages,
        ):
            async for message in messages:
                yield message

    return [both(rpc.RunAndWait, run_and_wait)]
