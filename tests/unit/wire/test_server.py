"""The server around the handlers: failures, bounds, leaving clients, stalled clients, drain."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from eru.lib.world import real_world
from eru.model.errors import CoreUnreachable, EruError, InvalidInput, NoCapacity, RemoteError
from eru.model.refusals import Reason, Refusal
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient, connect
from eru.wire.client_tls import ClientTLS
from eru.wire.routes import Call, Route, both, stream, unary
from eru.wire.server import RpcServer, ServerSettings, ServerTLS

WORLD = real_world()


@asynccontextmanager
async def serving(*routes: Route, **settings: object) -> AsyncIterator[RpcServer]:
    options = {"bind": "127.0.0.1:0", "drain_s": 0.5, **settings}
    server = RpcServer(WORLD, ServerSettings(**options), routes)  # type: ignore[arg-type]
    await server.start()
    try:
        yield server
    finally:
        await server.drain()


def client(server: RpcServer, **options: object) -> CoreClient:
    return connect(f"127.0.0.1:{server.port}", world=WORLD, **options)  # type: ignore[arg-type]


async def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something that must become true."""
    try:
        async with asyncio.timeout(60):
            while not true():  # noqa: ASYNC110 - looked at from outside
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"still not: {what}")


async def echo(request: pb.GetPodOptions, call: Call) -> pb.Pod:
    return pb.Pod(name=request.name, desc=call.trace)


def failing(error: BaseException) -> Callable[[pb.GetPodOptions, Call], Awaitable[pb.Pod]]:
    async def fail(request: pb.GetPodOptions, call: Call) -> pb.Pod:
        raise error

    return fail


async def ask(server: RpcServer, **options: object) -> pb.Pod:
    async with client(server, **options) as core:
        return await core.unary(rpc.GetPod, pb.GetPodOptions(name="p"))


async def refusal(server: RpcServer, **options: object) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        await ask(server, **options)
    return caught.value


async def test_an_answer() -> None:
    async with serving(unary(rpc.GetPod, echo)) as server:
        assert (await ask(server)).name == "p"


async def test_a_known_error_keeps_number_kind_words_and_reasons() -> None:
    reasons = [Refusal(nodename="n1", reason=Reason.RESOURCE, dimension="cpumem.memory", wanted=2, free=1)]
    async with serving(unary(rpc.GetPod, failing(NoCapacity("too\nfull", reasons)))) as server:
        error = await refusal(server)
    assert (error.code, error.kind, str(error), error.rpc) == (1023, "NoCapacity", "too full", "GetPod")
    assert error.refusals == reasons


async def test_an_unexpected_error_says_no_more_than_one_sentence() -> None:
    async with serving(unary(rpc.GetPod, failing(KeyError("secret detail")))) as server:
        error = await refusal(server)
        assert error.code == 13
        assert "secret" not in str(error)
        assert "trace" in str(error)
        assert (await refusal(server)).code == 13  # and it lives on


async def test_what_has_no_handler_is_unimplemented() -> None:
    async with serving() as server:
        error = await refusal(server)
    assert error.code == 12
    assert "GetPod" in str(error)


async def test_unreadable_bytes_are_refused() -> None:
    async with serving(unary(rpc.GetPod, echo)) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as raw:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.unary_unary(rpc.GetPod.path)(b"\xff\xff\xff")
    assert "not a readable GetPodOptions" in str(caught.value.details())


async def test_a_slow_unary_call_ends() -> None:
    async def never(request: pb.GetPodOptions, call: Call) -> pb.Pod:
        await asyncio.Event().wait()
        return pb.Pod()

    async with serving(unary(rpc.GetPod, never), call_limit_s=0.05) as server:
        error = await refusal(server)
    assert (error.code, error.kind) == (1023, "Expired")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "invalid grpc username"),
        ({"username": "Admin", "password": "wrong"}, "invalid grpc password"),
        ({"username": "other", "password": "secret"}, "invalid grpc username"),
    ],
)
async def test_auth_refuses(options: dict[str, str], words: str) -> None:
    async with serving(unary(rpc.GetPod, echo), username="Admin", password="secret") as server:
        error = await refusal(server, **options)
    assert error.code == 2
    assert words in str(error)
    assert "secret" not in str(error)


async def test_auth_lets_in_and_covers_streams_and_reflection() -> None:
    async def many(request: pb.ListWorkloadsOptions, call: Call) -> AsyncIterator[pb.Workload]:
        yield pb.Workload(id="w")

    routes = [unary(rpc.GetPod, echo), stream(rpc.ListWorkloads, many)]
    async with serving(*routes, username="Admin", password="secret") as server:
        assert (await ask(server, username="Admin", password="secret")).name == "p"
        async with client(server) as core:
            with pytest.raises(RemoteError, match="invalid grpc username"):
                await anext(core.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions()))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as raw:
            call = reflection_pb2_grpc.ServerReflectionStub(raw).ServerReflectionInfo()
            with pytest.raises(grpc.aio.AioRpcError, match="invalid grpc username"):
                await call.read()
            health = await health_pb2_grpc.HealthStub(raw).Check(health_pb2.HealthCheckRequest(service="pb.CoreRPC"))
            assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_names_both_services() -> None:
    async with serving() as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as raw:
        call = reflection_pb2_grpc.ServerReflectionStub(raw).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        call.cancel()
    assert {"pb.CoreRPC", "eru.v1.Eru"} <= {service.name for service in answer.list_services_response.service}


async def test_a_client_that_leaves_cancels_its_work() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def work(request: pb.GetPodOptions, call: Call) -> pb.Pod:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return pb.Pod()

    async with serving(unary(rpc.GetPod, work)) as server:
        async with client(server) as core:
            call = asyncio.create_task(core.unary(rpc.GetPod, pb.GetPodOptions()))
            await begun.wait()
            assert [row["rpc"] for row in server.calls()] == ["GetPod"]
            call.cancel()
            await asyncio.wait_for(cancelled.wait(), 60)
        await until(lambda: not server.calls(), "its end")


async def test_a_client_that_stops_reading_is_cut_off_and_stalls_nobody() -> None:
    made = 0

    async def flood(request: pb.ListWorkloadsOptions, call: Call) -> AsyncIterator[pb.Workload]:
        nonlocal made
        while True:
            made += 1
            yield pb.Workload(id="x" * 100_000)

    routes = [unary(rpc.GetPod, echo), stream(rpc.ListWorkloads, flood)]
    async with serving(*routes, stall_s=0.3) as server:
        async with client(server) as core, client(server) as other:
            stalled = core.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions())
            await anext(stalled)
            assert (await other.unary(rpc.GetPod, pb.GetPodOptions(name="q"))).name == "q"
            assert (await core.unary(rpc.GetPod, pb.GetPodOptions(name="q"))).name == "q"
            await until(lambda: not server.calls(), "the end of the stalled one, though its client never reads on")
            with pytest.raises(RemoteError, match="took no message") as caught:
                _ = [message async for message in stalled]
            assert caught.value.code == 1053
        assert made < 1000  # memory stayed bounded: what was made was taken


async def test_at_its_limit_core_says_so() -> None:
    async def wait(request: pb.Empty, call: Call) -> AsyncIterator[pb.NodeStatusStreamMessage]:
        yield pb.NodeStatusStreamMessage(nodename="first")
        await asyncio.Event().wait()

    routes = [unary(rpc.GetPod, echo), stream(rpc.NodeStatusStream, wait)]
    async with serving(*routes, calls_max=1) as server, client(server) as core:
        watching = core.stream(rpc.NodeStatusStream, pb.Empty())
        await anext(watching)
        with pytest.raises(RemoteError, match="busy") as caught:
            await core.unary(rpc.GetPod, pb.GetPodOptions())
        assert caught.value.code == 8
        await watching.aclose()


async def test_drain_ends_watches_well_lets_others_finish_then_cancels() -> None:
    order: list[str] = []
    slow_begun = asyncio.Event()

    async def watch(request: pb.Empty, call: Call) -> AsyncIterator[pb.NodeStatusStreamMessage]:
        yield pb.NodeStatusStreamMessage(nodename="first")
        await asyncio.Event().wait()

    async def slow(request: pb.GetPodOptions, call: Call) -> pb.Pod:
        slow_begun.set()
        await asyncio.sleep(0.2)
        order.append("slow ended")
        return pb.Pod(name="done")

    async def unregister() -> None:
        order.append("unregistered")

    routes = [unary(rpc.GetPod, slow), stream(rpc.NodeStatusStream, watch)]
    async with serving(*routes, drain_s=5) as server, client(server) as core:
        watching = core.stream(rpc.NodeStatusStream, pb.Empty())
        await anext(watching)
        call = asyncio.create_task(core.unary(rpc.GetPod, pb.GetPodOptions()))
        await slow_begun.wait()
        draining = asyncio.create_task(server.drain(unregister))
        assert [message async for message in watching] == []  # ended OK, no error
        assert (await call).name == "done"
        await asyncio.wait_for(draining, 60)
        with pytest.raises(CoreUnreachable):
            await core.unary(rpc.GetPod, pb.GetPodOptions())
    assert order == ["unregistered", "slow ended"]


async def test_a_watcher_that_comes_back_at_once_does_not_hold_up_the_drain() -> None:
    """As published clients do when a watch stream ends."""

    async def watch(request: pb.Empty, call: Call) -> AsyncIterator[pb.NodeStatusStreamMessage]:
        yield pb.NodeStatusStreamMessage(nodename="first")
        await asyncio.Event().wait()

    async with (
        serving(stream(rpc.NodeStatusStream, watch), drain_s=60) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as raw,
    ):
        opened = asyncio.Event()

        async def follow() -> None:
            while True:
                call = raw.unary_stream(rpc.NodeStatusStream.path)(b"")
                async for _ in call:
                    opened.set()

        following = asyncio.create_task(follow())
        await opened.wait()
        await asyncio.wait_for(server.drain(lambda: asyncio.sleep(0.1)), 60)
        with pytest.raises(grpc.aio.AioRpcError):
            await following


async def test_both_directions() -> None:
    async def shout(
        requests: AsyncIterator[pb.ExecuteWorkloadOptions], call: Call
    ) -> AsyncIterator[pb.AttachWorkloadMessage]:
        async for request in requests:
            yield pb.AttachWorkloadMessage(data=request.repl_cmd.upper())

    async def words() -> AsyncIterator[pb.ExecuteWorkloadOptions]:
        for word in (b"a", b"b"):
            yield pb.ExecuteWorkloadOptions(repl_cmd=word)

    async with serving(both(rpc.ExecuteWorkload, shout)) as server, client(server) as core:
        assert [message.data async for message in core.both(rpc.ExecuteWorkload, words())] == [b"A", b"B"]


async def test_fast_pings_are_tolerated() -> None:
    async def watch(request: pb.Empty, call: Call) -> AsyncIterator[pb.NodeStatusStreamMessage]:
        await asyncio.sleep(1.5)
        yield pb.NodeStatusStreamMessage(nodename="late")

    async with serving(stream(rpc.NodeStatusStream, watch)) as server:
        options = [("grpc.keepalive_time_ms", 100), ("grpc.http2.max_pings_without_data", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as raw:
            call = raw.unary_stream(
                rpc.NodeStatusStream.path, response_deserializer=pb.NodeStatusStreamMessage.FromString
            )(b"")
            assert (await call.read()).nodename == "late"


async def test_a_taken_port_is_one_sentence() -> None:
    async with serving() as first:
        second = RpcServer(WORLD, ServerSettings(bind=f"127.0.0.1:{first.port}"), [])
        with pytest.raises(InvalidInput, match=f"cannot listen on 127.0.0.1:{first.port}: Address already in use"):
            await second.start()


async def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    path = tmp_path / "core.sock"
    bind = f"unix:{path}"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))  # what a process leaves that was killed
    server = RpcServer(WORLD, ServerSettings(bind=bind), [unary(rpc.GetPod, echo)])
    await server.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    async with connect([bind], world=WORLD) as core:
        assert (await core.unary(rpc.GetPod, pb.GetPodOptions(name="p"))).name == "p"
    with pytest.raises(InvalidInput, match="Address already in use"):
        await RpcServer(WORLD, ServerSettings(bind=bind), []).start()
    await server.drain()
    assert not path.exists()
    path.write_text("something of somebody")
    with pytest.raises(InvalidInput, match="a file of that name that is no socket"):
        await RpcServer(WORLD, ServerSettings(bind=bind), []).start()
    assert path.read_text() == "something of somebody"


async def test_mutual_tls() -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    mine, yours, wrong = authority.issue_cert("127.0.0.1"), authority.issue_cert("me"), stranger.issue_cert("me")
    ca = authority.cert_pem.bytes()
    tls = ServerTLS(cert=mine.cert_chain_pems[0].bytes(), key=mine.private_key_pem.bytes(), client_ca=ca)

    def credentials(issued: trustme.LeafCert | None) -> ClientTLS:
        if issued is None:
            return ClientTLS(ca=ca)
        return ClientTLS(ca=ca, cert=issued.cert_chain_pems[0].bytes(), key=issued.private_key_pem.bytes())

    async with serving(unary(rpc.GetPod, echo), tls=tls) as server:
        assert (await ask(server, tls=credentials(yours))).name == "p"
        for bad in (credentials(wrong), credentials(None), None):
            with pytest.raises(EruError):
                await ask(server, tls=bad, connect_timeout_s=0.7)


async def test_the_status_of_a_call_that_ended_while_its_client_was_sending() -> None:
    """grpc.aio would report its own failed write instead."""

    async def refuse(
        requests: AsyncIterator[pb.ExecuteWorkloadOptions], call: Call
    ) -> AsyncIterator[pb.AttachWorkloadMessage]:
        raise InvalidInput("no")
        yield

    async def many() -> AsyncIterator[pb.ExecuteWorkloadOptions]:
        for _ in range(200):
            yield pb.ExecuteWorkloadOptions(repl_cmd=b"x" * 1000)

    async with serving(both(rpc.ExecuteWorkload, refuse)) as server, client(server) as core:
        for _ in range(30):
            with pytest.raises(RemoteError, match=r"^no$") as caught:
                _ = [message async for message in core.both(rpc.ExecuteWorkload, many())]
            assert caught.value.code == 1079


async def test_what_does_not_finish_in_time_is_told_so() -> None:
    begun = asyncio.Event()

    async def never(request: pb.GetPodOptions, call: Call) -> pb.Pod:
        begun.set()
        await asyncio.Event().wait()
        return pb.Pod()

    async with serving(unary(rpc.AddPod, never), drain_s=0.2) as server, client(server) as core:  # type: ignore[arg-type]
        call = asyncio.create_task(core.unary(rpc.AddPod, pb.AddPodOptions()))
        await begun.wait()
        await asyncio.wait_for(server.drain(), 60)
        with pytest.raises(RemoteError, match="went away before AddPod was finished") as caught:
            await call
    assert (caught.value.code, caught.value.kind) == (14, "Interrupted")
    assert not isinstance(caught.value, CoreUnreachable)  # it may have changed something


async def test_a_begun_call_that_is_cut_off_without_a_word_is_not_offered_to_another_core() -> None:
    begun = asyncio.Event()

    async def stubborn(request: pb.AddPodOptions, call: Call) -> pb.Pod:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.5)  # longer than the farewell
        return pb.Pod()

    async with serving(unary(rpc.AddPod, stubborn), drain_s=0.1) as server, client(server) as core:
        call = asyncio.create_task(core.unary(rpc.AddPod, pb.AddPodOptions()))
        await begun.wait()
        await server._server.stop(0)  # type: ignore[union-attr]
        with pytest.raises(RemoteError) as caught:
            await call
    assert not isinstance(caught.value, CoreUnreachable)
