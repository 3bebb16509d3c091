"""A core that records what it is asked and answers from a script, behind a real gRPC port."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from eru.wire import methods


@dataclass(frozen=True)
class Fails:
    """An error as our core sends it (`kind`) or as a published one does (no kind)."""

    text: str
    kind: str = ""
    number: int = 0


@dataclass
class Script:
    """`answers[rpc name]`: one message, a list of them, `Fails`, or a function of the requests."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    address: str = ""
    seen: list[tuple[str, str, str]] = field(default_factory=list)  # rpc name, key and value of its metadata

    def metadata(self, name: str) -> list[tuple[str, str]]:
        """What came with all requests of one rpc."""
        return [(key, value) for called, key, value in self.seen if called == name]

    def requests(self, name: str) -> list[Any]:
        """All requests of one rpc."""
        return [request for called, request in self.asked if called == name]


class ScriptHandler(grpc.GenericRpcHandler):
    def __init__(self, script: Script) -> None:
        self._script = script

    def service(self, details: Any) -> Any:
        method = methods.ALL.get(details.method)
        if method is None or method.name not in self._script.answers:
            return None  # UNIMPLEMENTED

        def serve(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            answer = self._script.answers[method.name]
            self._script.seen += [(method.name, key, value) for key, value in context.invocation_metadata()]
            if callable(answer):
                yield from answer(requests)
                return
            for request in requests:
                self._script.asked.append((method.name, request))
                if not isinstance(method, methods.StreamStream):
                    break
            if isinstance(answer, Fails):
                trailers = [("eru-kind", answer.kind)] if answer.kind else []
                trailers += [("eru-code", str(answer.number))] if answer.number else []
                context.set_trailing_metadata(trailers)
                context.abort(grpc.StatusCode.UNKNOWN, answer.text)
            yield from answer if isinstance(answer, list) else [answer]

        return grpc.stream_stream_rpc_method_handler(
            serve,
            request_deserializer=method.request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
