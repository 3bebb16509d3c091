"""Traces and defects, sent to a small HTTP server that plays OpenTelemetry's collector and Sentry."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from eru.config import CoreConfig, RegistryAuth
from eru.core.metered import CallTimes
from eru.core.service import serve
from eru.lib.log import configure_logging
from eru.model.errors import RemoteError
from eru.roots import core_telemetry as telemetry
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import connect
from eru.wire.routes import unary
from eru.wire.server import RpcServer, ServerSettings, Unobserved


class Sink:
    """What was posted: path -> bodies."""

    def __init__(self) -> None:
        self.got: dict[str, list[bytes]] = {}
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.got.setdefault(self.path, []).append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self) -> list[Any]:
        return [
            span
            for body in self.got.get("/v1/traces", [])
            for group in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.server.shutdown()
    sink.server.server_close()


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


async def test_a_trace_of_a_call_and_what_it_asks(cluster: Any, sink: Sink) -> None:
    traces = telemetry.traces_of(CoreConfig(otlp_endpoint=f"http://{sink.address}"), "here")
    assert traces is not None
    times = CallTimes(cluster.world, traces.inside)
    cluster.core.store = times.store(cluster.core.store)
    settings = ServerSettings(bind="127.0.0.1:0", drain_s=0.1)
    server = await serve(cluster.core, settings, traces.observer(Unobserved()))
    try:
        async with connect(f"127.0.0.1:{server.port}", world=cluster.world) as client:
            await client.unary(rpc.AddPod, pb.AddPodOptions(name="seen"))
            with pytest.raises(RemoteError):
                await client.unary(rpc.GetWorkload, pb.WorkloadID(id="ghost"))
    finally:
        await server.drain()
        traces.close()
    spans = sink.spans()
    calls = {span.name: span for span in spans if span.kind == span.SPAN_KIND_SERVER}
    assert set(calls) == {"AddPod", "GetWorkload"}
    asked = [span for span in spans if span.parent_span_id == calls["GetWorkload"].span_id]
    assert [span.name for span in asked] == ["store.get_many"]
    told = {item.key: item.value for item in calls["GetWorkload"].attributes}
    assert calls["GetWorkload"].trace_id.hex() == told["eru.trace"].string_value.zfill(32)
    assert calls["GetWorkload"].status.code == 2
    assert told["rpc.grpc.status_code"].int_value == 1051
    assert calls["AddPod"].status.code == 0
    assert {span.trace_id for span in asked} == {calls["GetWorkload"].trace_id}


async def test_a_defect_goes_to_sentry_without_secrets(cluster: Any, sink: Sink) -> None:
    config = CoreConfig(sentry_dsn=f"http://public@{sink.address}/7")
    config.etcd.auth.password = "hush-hush"
    config.docker.auths = {"hub": RegistryAuth(username="me", password="very-hidden")}
    configure_logging("info")
    end = telemetry.report_defects(config)

    async def broken(request: Any, call: Any) -> Any:
        local = "very-hidden"
        raise ZeroDivisionError(f"with hush-hush inside, and {len(local)}")

    server = RpcServer(cluster.world, ServerSettings(bind="127.0.0.1:0", drain_s=0.1), [unary(rpc.Info, broken)])
    await server.start()
    try:
        async with connect(f"127.0.0.1:{server.port}", world=cluster.world) as client:
            with pytest.raises(RemoteError, match="its log tells more"):
                await client.unary(rpc.Info, pb.Empty())
            with pytest.raises(RemoteError):
                await client.unary(rpc.GetPod, pb.GetPodOptions(name="refused, which is no defect"))
    finally:
        await server.drain()
        end()
    [body] = sink.got["/api/7/envelope/"]
    text = body.decode()
    event = json.loads(text.splitlines()[-1])
    [error] = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("ZeroDivisionError", "with *** inside, and 11")
    assert event["tags"]["rpc"] == "Info"
    assert event["tags"]["trace"]
    assert "hush-hush" not in text
    assert "very-hidden" not in text


def test_what_is_missing_is_one_line() -> None:
    assert telemetry.missing_extras(CoreConfig(), {}) == []
    both = CoreConfig(sentry_dsn="http://a@b/1", otlp_endpoint="http://c")
    assert telemetry.missing_extras(both, {}) == [], "the tests have both"
    assert telemetry.missing_extras(both, {}, installed=lambda module: False) == [
        "otlp_endpoint is set, but no traces are sent: pip install 'eru[otel]'",
        "sentry_dsn is set, but nothing is reported there: pip install 'eru[sentry]'",
    ]
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://d"}
    assert telemetry.otlp_endpoint(CoreConfig(), environ) == "http://d"


@pytest.mark.parametrize(
    "trace", ["0123456789abcdef", "3F2504E0-4F89-11D3-9A0C-0305E82C3301", "my-own-trace-id", "00000000"]
)
def test_ids(trace: str) -> None:
    number = telemetry.otel_id(trace)
    assert 0 < number < 2**128
    if trace.startswith("0123"):
        assert f"{number:032x}" == trace.zfill(32)
