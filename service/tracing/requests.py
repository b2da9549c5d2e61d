"""The outermost layer where traces are on: a span for every request under ``/v1``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.trace import Span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.log_lines import current_trace_id
from service.tracing.spans import Tracing, fail

TRACED = "/v1/"
CARRIED = (b"traceparent", b"tracestate")
# What the answer's headers tell, and how it is written there.
TOLD: dict[bytes, tuple[str, Callable[[str], Any]]] = {
    b"x-request-id": ("bandit_router.request_id", str),
    b"x-router-model": ("bandit_router.model", str),
    b"x-router-attempts": ("bandit_router.attempts", int),
    b"x-router-overhead-ms": ("bandit_router.overhead_ms", float),
    b"x-router-cost-usd": ("bandit_router.cost_usd", float),
    b"x-router-degraded": ("bandit_router.degraded", str),
}


class TracedRequests:
    """Continues the caller's trace, or begins one, and ends it with the answer's last byte."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(TRACED):
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        attributes = {"http.request.method": method, "url.scheme": scope["scheme"]}
        with self._tracing.request(method, _carrier(scope["headers"]), attributes) as trace:
            span = trace.span

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _answered(span, message["status"], message.get("headers", ()))
                await send(message)

            token = current_trace_id.set(f"{span.get_span_context().trace_id:032x}")
            try:
                await self._app(scope, receive, send_traced)
            except Exception as error:
                fail(span, type(error).__name__)
                raise
            finally:
                current_trace_id.reset(token)
                _name(span, scope)


def _carrier(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in headers if name in CARRIED}


def _answered(span: Span, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
    span.set_attribute("http.response.status_code", status)
    # To a server, what the caller did wrong is no failure.
    if status >= 500:
        fail(span, str(status))
    for name, value in headers:
        if name in TOLD:
            attribute, read = TOLD[name]
            span.set_attribute(attribute, read(value.decode("latin-1")))


def _name(span: Span, scope: Scope) -> None:
    """Method and route, as the router found it: paths that nobody serves get no names."""
    route = getattr(scope.get("route"), "path", None)
    if route is None and "endpoint" in scope:
        # Starlette's plain routes leave no route behind, and have no parameters here.
        route = scope["path"]
    if route is not None:
        span.set_attribute("http.route", route)
        span.update_name(f"{scope['method']} {route}")
