"""Traces to an OpenTelemetry collector, defects to Sentry: optional, imported only when they are configured.

Both need packages of their own (`pip install eru[otel]`, `eru[sentry]`). A
core whose extra is missing says so in one line and goes on without.

A trace has one span for the call and one for each call to the store or an
engine that was made for it. Its id is the one in core's log and in the
workload label `eru.trace`, filled up with zeros to the size that
OpenTelemetry wants.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from eru import __version__
from eru.config import CoreConfig
from eru.lib.log import on_defect, trace_id
from eru.lib.settings import MASK
from eru.wire.server import Observer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_EXPORTER = "opentelemetry.exporter.otlp.proto.http"
OTLP_ENV = "OTEL_EXPORTER_OTLP_ENDPOINT"
SPANS_WAITING_MAX = 10_000  # above that they are dropped
SPANS_EVERY_S = 5.0
_SECRET_LEAST = 4  # characters; shorter ones would mask half of every text
_HEX = frozenset("0123456789abcdef")


def otlp_endpoint(config: CoreConfig, environ: Mapping[str, str] = os.environ) -> str:
    """Where traces go, as `http://host:4318`; "" for nowhere."""
    return config.otlp_endpoint or environ.get(OTLP_ENV, "")


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def missing_extras(
    config: CoreConfig, environ: Mapping[str, str] = os.environ, installed: Callable[[str], bool] = _installed
) -> list[str]:
    """One line for each configured thing whose package is not installed."""
    missing = []
    if otlp_endpoint(config, environ) and not (installed("opentelemetry.sdk") and installed(_EXPORTER)):
        missing.append("otlp_endpoint is set, but no traces are sent: pip install 'eru[otel]'")
    if config.sentry_dsn and not installed("sentry_sdk"):
        missing.append("sentry_dsn is set, but nothing is reported there: pip install 'eru[sentry]'")
    return missing


# Traces.


class Traces:
    """Spans of calls and of what they ask of store and engines."""

    def __init__(self, endpoint: str, core: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._api = trace
        about = {"service.name": "eru-core", "service.version": __version__, "service.instance.id": core}
        self._provider: TracerProvider = TracerProvider(resource=Resource.create(about))
        self._provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces"),
                max_queue_size=SPANS_WAITING_MAX,
                schedule_delay_millis=int(SPANS_EVERY_S * 1000),
            )
        )
        self._tracer = self._provider.get_tracer("eru.core", __version__)
        self._span: ContextVar[Span | None] = ContextVar("eru_span", default=None)

    def observer(self, inner: Observer) -> Observer:
        """`inner`, and a span for every call."""
        return _Spans(self, inner)

    def begin(self, rpc: str) -> None:
        """The call's span; it and what it starts find it by their context."""
        self._span.set(self._start(rpc, self._root(), self._api.SpanKind.SERVER))

    def end(self, number: int) -> None:
        """The call has ended with this status number."""
        span = self._span.get()
        if span is None:
            return
        span.set_attribute("rpc.grpc.status_code", number)
        if number:
            span.set_status(self._api.StatusCode.ERROR)
        span.end()

    @contextmanager
    def inside(self, to: str, verb: str) -> Iterator[None]:
        """A span for one call to the store or an engine, if it is made for a call that has one."""
        parent = self._span.get()
        if parent is None or not trace_id():  # work for everybody, which a call happened to begin
            yield
            return
        span = self._start(f"{to}.{verb}", self._api.set_span_in_context(parent), self._api.SpanKind.CLIENT)
        try:
            yield
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(self._api.StatusCode.ERROR)
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        self._provider.shutdown()

    def _start(self, name: str, context: Any, kind: Any) -> Span:
        return self._tracer.start_span(name, context=context, kind=kind, attributes={"eru.trace": trace_id()})

    def _root(self) -> Any:
        """As if whoever gave the trace its id had a span, too: so the ids agree."""
        number = otel_id(trace_id())
        parent = self._api.SpanContext(
            number, (number & (2**64 - 1)) or 1, is_remote=True, trace_flags=self._api.TraceFlags(1)
        )
        return self._api.set_span_in_context(self._api.NonRecordingSpan(parent))


def otel_id(trace: str) -> int:
    """128 bits: the id itself where it is such a number in hexadecimal, else a digest of it; never 0."""
    plain = trace.replace("-", "").lower()
    if 0 < len(plain) <= 32 and _HEX.issuperset(plain):
        return int(plain, 16) or 1
    return int.from_bytes(hashlib.blake2s(trace.encode(), digest_size=16).digest(), "big") or 1


class _Spans:
    def __init__(self, traces: Traces, inner: Observer) -> None:
        self._traces = traces
        self._inner = inner

    def call_started(self, rpc: str) -> None:
        self._traces.begin(rpc)
        self._inner.call_started(rpc)

    def call_ended(self, rpc: str, number: int, seconds: float) -> None:
        self._traces.end(number)
        self._inner.call_ended(rpc, number, seconds)


Around = Callable[[str, str], AbstractContextManager[None]]


def traces_of(config: CoreConfig, core: str) -> Traces | None:
    """What sends traces; None when nobody wants any, or the extra is missing."""
    endpoint = otlp_endpoint(config)
    if not endpoint or not (_installed("opentelemetry.sdk") and _installed(_EXPORTER)):
        return None
    return Traces(endpoint, core)


# Defects.


def report_defects(config: CoreConfig) -> Callable[[], None]:
    """From now on what is logged with a traceback also goes to Sentry, if one is configured; what to call at the end.

    No variables, no request contents, no host's environment; secrets of the
    configuration are masked wherever they stand.
    """
    if not config.sentry_dsn or not _installed("sentry_sdk"):
        return lambda: None
    import sentry_sdk

    sentry_sdk.init(
        dsn=config.sentry_dsn,
        release=f"eru@{__version__}",
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        include_source_context=False,
        max_breadcrumbs=0,
        traces_sample_rate=None,
        before_send=functools.partial(_masked_event, secrets_of(config)),
    )

    def tell(error: BaseException, said: Mapping[str, Any]) -> None:
        with sentry_sdk.new_scope() as scope:
            for name in ("trace", "rpc", "task"):
                if name in said:
                    scope.set_tag(name, str(said[name]))
            scope.capture_exception(error)

    on_defect(tell)

    def end() -> None:
        on_defect(None)
        sentry_sdk.flush(timeout=2.0)

    return end


def secrets_of(config: CoreConfig) -> list[str]:
    """All that must not leave the process, longest first."""
    etcd, git, docker = config.etcd, config.git, config.docker
    found = {config.auth.password, etcd.auth.password, git.token, config.sentry_dsn}
    found.update(login.password for login in docker.auths.values())
    return sorted((secret for secret in found if len(secret) >= _SECRET_LEAST), key=len, reverse=True)


def _masked_event(secrets: list[str], event: Any, hint: Any) -> Any:
    return _masked(event, secrets)


def _masked(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, dict):
        return {key: _masked(part, secrets) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(part, secrets) for part in value]
    return value
