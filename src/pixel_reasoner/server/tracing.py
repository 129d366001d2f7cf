"""Spans of requests, rollouts, turns and operations, sent to an OpenTelemetry collector. Needs the extra `otel`.

    POST /v1/chat/completions          request, a child of the span of the client (traceparent) if there is one
      rollout                          one per answer; it outlives the request of a trace job
        queue                          until the first turn: waiting and decoding
        turn                           generation, then
          operation                    zoom_in, select_frames, ...

The standard variables configure it: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, ... Attributes are
numbers, enums and names of this program, and the request id; never prompts, pictures, answers, paths, addresses or keys.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context as contexts
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
)
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

from pixel_reasoner import __version__
from pixel_reasoner.errors import UsageError
from pixel_reasoner.rollout.request import RolloutRequest
from pixel_reasoner.schema.events import (
    CallParsed,
    Event,
    Failed,
    Finished,
    Observed,
    TurnDone,
    TurnStarted,
)

REQUEST_ID = "pixel_reasoner.request_id"
_REQUEST_ID_KEY = contexts.create_key(REQUEST_ID)
_CLOSE_TIMEOUT_S = 3.0


def build_tracer(model_name: str, environ: Mapping[str, str] = os.environ) -> ServerTracer:
    """Return a tracer that is configured by the standard variables.

    Args:
        model_name: name of the model for clients.
        environ: variables; the SDK reads those of the process for everything except the exporter.

    Raises:
        UsageError: an exporter or a protocol that is not supported.
    """
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "pixel-reasoner"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter(environ)))
    return ServerTracer(provider, model_name)


def _exporter(environ: Mapping[str, str]) -> SpanExporter:
    name = environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    if name == "console":
        return ConsoleSpanExporter()
    protocol = environ.get(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    )
    for variable, value, allowed in (
        ("OTEL_TRACES_EXPORTER", name, "otlp"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol, "http/protobuf"),
    ):
        if value != allowed:
            raise UsageError(
                expected=f"{variable}={allowed}",
                got=repr(value),
                fix="change the variable, or set OTEL_SDK_DISABLED=true",
            )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


class ServerTracer:
    """Tracer of one server, and observer of its scheduler. Thread-safe.

    Args:
        provider: of the SDK. It is not the global one, so libraries in this process send nothing.
        model_name: name of the model for clients.
    """

    def __init__(self, provider: TracerProvider, model_name: str) -> None:
        self.provider = provider
        self.model_name = model_name
        self._tracer = provider.get_tracer("pixel_reasoner.server", __version__)
        self._rollouts: dict[str, _RolloutSpans] = {}
        self._lock = threading.Lock()

    @contextmanager
    def request(
        self, method: str, headers: Mapping[str, str], request_id: str
    ) -> Iterator[tuple[Span, Any]]:
        """Yield the span of a request and its context, which is the current one in the `with` block."""
        parent = extract(headers)
        attributes = {"http.request.method": method, REQUEST_ID: request_id}
        span = self._tracer.start_span(
            method, context=parent, kind=SpanKind.SERVER, attributes=attributes
        )
        context = contexts.set_value(
            _REQUEST_ID_KEY, request_id, set_span_in_context(span, contexts.Context())
        )
        token = contexts.attach(context)
        try:
            yield span, context
        finally:
            contexts.detach(token)
            span.end()

    @contextmanager
    def context_of(self, scope: Mapping[str, Any]) -> Iterator[None]:
        """Make the span of a request the current one, for a task that was started by another request."""
        context = scope.get("state", {}).get("span_context")
        if context is None:
            yield
            return
        token = contexts.attach(context)
        try:
            yield
        finally:
            contexts.detach(token)

    def end_request(self, span: Span, method: str, route: str | None, status: int) -> None:
        """Set what is known at the end of a request."""
        if route is not None:
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
        if status:
            span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(StatusCode.ERROR)

    # --- observer of the scheduler ---

    def submitted(self, request: RolloutRequest) -> None:
        """Start the span of a rollout in the current request."""
        with self._lock:
            self._rollouts[request.id] = _RolloutSpans(self._tracer, request, self.model_name)

    def event(self, event: Event) -> None:
        """Start and end spans of a rollout."""
        is_last = isinstance(event, Finished | Failed)
        with self._lock:
            found = self._rollouts.get(event.request_id)
            if is_last:
                self._rollouts.pop(event.request_id, None)
        if found is not None:
            found.event(event)

    def close(self) -> None:
        """Send the rest, within a time limit: the exporter of the SDK retries for longer if the collector does not answer."""
        closing = threading.Thread(target=self.provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_TIMEOUT_S)


class _RolloutSpans:
    """Open spans of one rollout. Its events do not overlap."""

    def __init__(self, tracer: Tracer, request: RolloutRequest, model_name: str) -> None:
        self.tracer = tracer
        self.operation_names = frozenset(request.config.operations)
        current = contexts.get_current()
        request_id = contexts.get_value(_REQUEST_ID_KEY, current)
        self.attributes = {REQUEST_ID: str(request_id)} if request_id else {}
        named = {"gen_ai.request.model": model_name}
        self.rollout = self._start("rollout", current, named)
        self.context = set_span_in_context(self.rollout, current)
        self.queue: Span | None = self._start("queue", self.context)
        self.turn: Span | None = None
        self.operations: deque[Span] = deque()

    def event(self, event: Event) -> None:
        """Start and end spans."""
        if isinstance(event, TurnStarted):
            self._end_queue()
            self.turn = self._start("turn", self.context, {"pixel_reasoner.turn": event.turn + 1})
        elif isinstance(event, CallParsed):
            name = event.call.name if event.call.name in self.operation_names else "unknown"
            parent = (
                self.context if self.turn is None else set_span_in_context(self.turn, self.context)
            )
            named = {"pixel_reasoner.operation": name}
            self.operations.append(self._start("operation", parent, named))
        elif isinstance(event, Observed) and self.operations:
            span = self.operations.popleft()
            is_rejected = event.observation.error is not None
            span.set_attribute("pixel_reasoner.outcome", "rejected" if is_rejected else "executed")
            span.end()
        elif isinstance(event, TurnDone):
            self._end_turn(event)
        elif isinstance(event, Finished | Failed):
            self._end(event)

    def _start(self, name: str, context: Any, attributes: Mapping[str, Any] | None = None) -> Span:
        return self.tracer.start_span(
            name, context=context, attributes={**self.attributes, **(attributes or {})}
        )

    def _end_queue(self) -> None:
        if self.queue is not None:
            self.queue.end()
            self.queue = None

    def _end_turn(self, event: TurnDone | None = None) -> None:
        if self.turn is None:
            return
        if event is not None:
            self.turn.set_attribute("gen_ai.usage.input_tokens", event.record.num_prompt_tokens)
            self.turn.set_attribute("gen_ai.usage.output_tokens", event.record.num_new_tokens or 0)
        self.turn.end()
        self.turn = None

    def _end(self, event: Finished | Failed) -> None:
        while self.operations:
            self.operations.popleft().end()
        self._end_turn()
        self._end_queue()
        self.rollout.set_attribute("pixel_reasoner.stop", event.trace.stop.value)
        self.rollout.set_attribute("pixel_reasoner.turns", len(event.trace.turns))
        if isinstance(event, Failed):
            self.rollout.set_status(StatusCode.ERROR)
        self.rollout.end()
