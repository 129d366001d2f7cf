"""Spans of requests. OpenTelemetry itself is imported only if a collector is configured (`tracing`)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from pixel_reasoner.errors import require_extra
from pixel_reasoner.server.asgi import App, Message, Receive, Scope, Send
from pixel_reasoner.server.services import Services

if TYPE_CHECKING:
    from pixel_reasoner.server.tracing import ServerTracer

_SILENT_PATHS = frozenset({"/health", "/ready", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def is_configured(environ: Mapping[str, str]) -> bool:
    """Return whether the standard variables of OpenTelemetry name a receiver of traces.

    >>> is_configured({}), is_configured({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"})
    (False, True)
    >>> is_configured({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"})
    False
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter:
        return exporter != "none"
    return any(environ.get(name) for name in _ENDPOINTS)


def configured_spans(model_name: str, environ: Mapping[str, str]) -> list[SpanPart]:
    """Return the part of the server that sends spans; empty if the variables configure no receiver.

    Args:
        model_name: name of the model for clients.
        environ: variables of the process.

    Raises:
        UsageError: the extra `otel` is not installed, or an exporter is not supported.
    """
    if not is_configured(environ):
        return []
    with require_extra("otel", "send traces to OpenTelemetry"):
        from pixel_reasoner.server.tracing import build_tracer
    return [SpanPart(build_tracer(model_name, environ))]


class SpanPart:
    """Part of the server that sends spans. The server closes the tracer."""

    def __init__(self, tracer: ServerTracer) -> None:
        self.tracer = tracer

    def mount(self, app: FastAPI, services: Services) -> None:
        """Add the middleware. Requests without a valid key or host do not reach it."""
        services.tracer = self.tracer
        app.add_middleware(SpanMiddleware, tracer=self.tracer)


class SpanMiddleware:
    """Middleware that makes one span per request, except for those of operators."""

    def __init__(self, app: App, tracer: ServerTracer) -> None:
        self.app = app
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        if scope["type"] != "http" or scope["path"] in _SILENT_PATHS:
            await self.app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._span(scope, method) as (span, context):
            scope["state"]["span_context"] = context
            try:
                await self.app(scope, receive, send_and_note)
            except Exception:
                status = status or 500
                raise
            finally:
                route = getattr(scope.get("route"), "path", None)
                self.tracer.end_request(span, method, route, status)

    def _span(self, scope: Scope, method: str) -> AbstractContextManager[tuple[Any, Any]]:
        headers = {
            key.decode("latin-1"): value.decode("latin-1")
            for key, value in scope["headers"]
            if key in (b"traceparent", b"tracestate")
        }
        return self.tracer.request(method, headers, scope["state"]["request_id"])
