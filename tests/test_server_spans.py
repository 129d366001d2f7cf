"""Spans of requests for OpenTelemetry: structure, times, and that they contain nothing of clients."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cli_fixture import assert_refused
from pixel_reasoner.errors import UsageError
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.server.mcp_part import McpPart
from pixel_reasoner.server.spans import SpanPart, configured_spans, is_configured
from pixel_reasoner.server.traces import TracesPart
from pixel_reasoner.server.tracing import ServerTracer
from server_fixture import chat, data_url, serving, wait_until
from test_scheduler import CLOSER, RED
from test_server_load import EndlessModel, raw_request

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


class Recorded:
    """Part of the server that keeps finished spans."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.part = SpanPart(ServerTracer(provider, "test"))

    def spans(self, num_requests: int = 1):
        """Return all spans when this number of requests has ended."""
        wait_until(lambda: self._num_ended() >= num_requests)
        return sorted(self.exporter.get_finished_spans(), key=lambda one: one.start_time)

    def _num_ended(self) -> int:
        found = self.exporter.get_finished_spans()
        return sum(one.kind.name == "SERVER" for one in found)


def tree(spans) -> list[tuple[str, str | None]]:
    """Return (name, name of the parent) of all spans."""
    names = {one.context.span_id: one.name for one in spans}
    return [(one.name, one.parent and names.get(one.parent.span_id)) for one in spans]


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_has_spans_of_its_queue_turns_and_operations(photo, stream):
    recorded = Recorded()
    with serving(ScriptedModel([CLOSER, RED]), parts=[recorded.part]) as server:
        headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01", "X-Request-Id": "mine"}
        body = chat("Which colour?", photo, stream=stream)
        assert server.post("/v1/chat/completions", body, headers=headers).status_code == 200
        server.get("/health")
        server.get("/metrics")
        spans = recorded.spans()
    route = "POST /v1/chat/completions"
    assert tree(spans) == [
        (route, None),
        ("rollout", route),
        ("queue", "rollout"),
        ("turn", "rollout"),
        ("operation", "turn"),
        ("turn", "rollout"),
    ]
    request, rollout, queue, first, operation, second = spans
    assert {format(one.context.trace_id, "032x") for one in spans} == {TRACE_ID}
    assert {one.attributes["pixel_reasoner.request_id"] for one in spans} == {"mine"}
    assert request.attributes["http.response.status_code"] == 200
    assert rollout.attributes["pixel_reasoner.stop"] == "answered"
    assert operation.attributes["pixel_reasoner.operation"] == "zoom_in"
    assert operation.attributes["pixel_reasoner.outcome"] == "executed"
    assert [one.attributes["pixel_reasoner.turn"] for one in (first, second)] == [1, 2]
    assert queue.end_time <= first.start_time <= operation.start_time <= operation.end_time
    assert operation.end_time <= first.end_time <= second.start_time <= rollout.end_time


def test_spans_contain_nothing_of_clients(photo):
    recorded = Recorded()
    wrong = '<tool_call>{"name": "SECRET", "arguments": {"SECRET": 1}}</tool_call>'
    model = ScriptedModel([wrong, CLOSER.replace("0.25", "2.5"), r"\boxed{SECRET}"])
    with serving(model, parts=[recorded.part, TracesPart()]) as server:
        server.post("/v1/chat/completions", chat("SECRET", photo))
        server.post("/v1/chat/completions", {"messages": "SECRET"})
        server.get("/v1/traces?q=SECRET", headers={"User-Agent": "SECRET"})
        server.get("/shared/SECRET")
        server.get("/SECRET")
        server.client.request("PATCH", "/v1/models/SECRET")
        body = {"question": "SECRET", "media": [data_url(photo)], "expected": "SECRET"}
        id = server.post("/v1/traces", body).json()["id"]
        server.get(f"/v1/traces/{id}/events")
        spans = recorded.spans(8)
    shown = " ".join(one.to_json() for one in spans)
    assert "SECRET" not in shown
    assert id not in shown
    assert "iVBOR" not in shown
    outcomes = {one.attributes.get("pixel_reasoner.outcome") for one in spans}
    assert "rejected" in outcomes


def test_a_rollout_of_a_trace_job_belongs_to_the_request_that_created_it(photo):
    recorded = Recorded()
    with serving(ScriptedModel([CLOSER, RED]), parts=[recorded.part, TracesPart()]) as server:
        body = {"question": "Which?", "media": [data_url(photo)], "options": {"repeat": 2}}
        id = server.post("/v1/traces", body).json()["id"]
        server.get(f"/v1/traces/{id}/events")
        spans = recorded.spans(2)
    parents = [parent for name, parent in tree(spans) if name == "rollout"]
    assert parents == ["POST /v1/traces"] * 2


def test_a_question_of_an_mcp_client_belongs_to_its_request(photo):
    from mcp import Client

    recorded = Recorded()
    with serving(ScriptedModel([CLOSER, RED]), parts=[recorded.part, McpPart()]) as server:

        async def ask():
            async with Client(f"{server.url}/mcp", mode="legacy") as client:
                arguments = {"question": "Which?", "media": data_url(photo)}
                return await client.call_tool("ask", arguments)

        assert asyncio.run(ask()).structured_content["answer"] == "red"
        spans = recorded.spans(2)
    (rollout,) = [one for one in spans if one.name == "rollout"]
    (parent,) = [one for one in spans if one.context.span_id == rollout.parent.span_id]
    assert parent.name == "POST /mcp"
    assert parent.start_time <= rollout.start_time
    assert rollout.end_time <= parent.end_time


def test_spans_of_a_client_that_leaves_are_ended(photo):
    recorded = Recorded()
    with serving(EndlessModel(), parts=[recorded.part]) as server:
        connection = raw_request(server, chat("Which?", photo, stream=True))
        wait_until(lambda: server.num_unfinished == 1)
        connection.close()
        wait_until(lambda: server.num_unfinished == 0)
        spans = recorded.spans()
        wait_until(lambda: any(one.name == "rollout" for one in recorded.spans()))
    (rollout,) = [one for one in recorded.spans() if one.name == "rollout"]
    assert rollout.attributes["pixel_reasoner.stop"] == "cancelled"
    assert spans


# --- configuration ---


@pytest.fixture
def collector():
    """OTLP collector: yields its address and the bodies that it received."""
    bodies = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            is_gzip = self.headers.get("content-encoding") == "gzip"
            bodies.append((self.path, gzip.decompress(content) if is_gzip else content))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()


def test_the_standard_variables_send_spans_to_a_collector(collector, monkeypatch, photo):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    address, bodies = collector
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_SERVICE_NAME": "mine"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with serving(ScriptedModel([RED]), parts=configured_spans("test", environ)) as server:
        server.chat("Which?", photo)
    assert {path for path, _ in bodies} == {"/v1/traces"}
    received = [ExportTraceServiceRequest.FromString(content) for _, content in bodies]
    resources = [one for request in received for one in request.resource_spans]
    names = {span.name for one in resources for scope in one.scope_spans for span in scope.spans}
    assert {"POST /v1/chat/completions", "rollout", "queue", "turn"} <= names
    services = {
        attribute.value.string_value
        for one in resources
        for attribute in one.resource.attributes
        if attribute.key == "service.name"
    }
    assert services == {"mine"}


def test_a_collector_that_does_not_answer_delays_neither_requests_nor_the_end(monkeypatch, photo):
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    monkeypatch.setenv(*next(iter(environ.items())))
    with serving(ScriptedModel([RED]), parts=configured_spans("test", environ)) as server:
        server.chat("Which?", photo)
        started = time.monotonic()
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("environ", "is_on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_spans_are_sent_only_if_the_variables_name_a_receiver(environ, is_on):
    assert is_configured(environ) is is_on


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_an_unsupported_exporter_is_refused(environ):
    with pytest.raises(UsageError, match="OTEL_"):
        configured_spans("test", environ)


def test_a_missing_package_is_one_message_with_the_install_command(run, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "pixel_reasoner.server.tracing")
    assert_refused(
        run("serve", "--model", "x", "--endpoint", "http://127.0.0.1:9/v1"),
        "is not installed",
        ".[otel]",
    )


def test_without_a_receiver_the_sdk_is_not_loaded():
    code = (
        "import sys; from pixel_reasoner.server.spans import configured_spans; "
        "assert configured_spans('x', {}) == []; assert 'opentelemetry.sdk' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
