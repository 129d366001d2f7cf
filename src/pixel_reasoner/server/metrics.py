"""Metrics of the server for Prometheus, with the names of vLLM under the prefix `pixel_reasoner:`.

Labels never contain text of clients: names of operations, models and reasons come from this program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pixel_reasoner.models.api import CacheUsage
from pixel_reasoner.schema.trace import Trace

PREFIX = "pixel_reasoner:"
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Metrics of one server, in its own registry."""

    def __init__(self, model_name: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._model_name = model_name
        self.running = self._gauge("num_requests_running", "Rollouts in progress.")
        self.waiting = self._gauge("num_requests_waiting", "Requests that wait.")
        self.picture_tokens_in_progress = self._gauge(
            "picture_tokens_in_progress", "Estimated picture tokens of accepted requests."
        )
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens that the model received.")
        self.generation_tokens = self._counter("generation_tokens", "Generated tokens.")
        self.picture_tokens = self._counter("picture_tokens", "Picture tokens of prompts.")
        self.success = self._counter("request_success", "Answered requests.", "finished_reason")
        self.refused = self._counter("request_refused", "Refused requests.", "code")
        self.operations = self._counter("operations", "Operations.", "name", "outcome")
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "Time to the first text of a stream."
        )
        self.latency = self._histogram(
            "e2e_request_latency_seconds", "Time of a request, from its acceptance."
        )
        self.queue_time = self._histogram(
            "request_queue_time_seconds", "Time to the first turn, including decoding."
        )
        self.inference_time = self._histogram(
            "request_inference_time_seconds", "Time of prefill and decode, of all turns."
        )
        self.time_per_output_token = self._histogram(
            "request_time_per_output_token_seconds",
            "Time of prefill and decode per generated token of a request.",
        )
        self.inter_token = self._histogram(
            "inter_token_latency_seconds", "Mean time per generated token of a turn."
        )
        self.rejected_media = self._counter("rejected_media", "Refused media.", "reason")
        self.conversation_queries = self._counter(
            "conversation_cache_queries", "Follow-up questions in conversations."
        )
        self.conversation_hits = self._counter(
            "conversation_cache_hits", "Follow-up questions whose conversation was kept."
        )
        self.http_seconds = self._histogram(
            "http_request_duration_seconds", "Time of a response.", "route", "status"
        )

    def add_trace(self, trace: Trace, num_prompt: int, num_new: int, num_picture: int) -> None:
        """Count the tokens and operations of a rollout that ended."""
        self.prompt_tokens.labels(self._model_name).inc(num_prompt)
        self.generation_tokens.labels(self._model_name).inc(num_new)
        self.picture_tokens.labels(self._model_name).inc(num_picture)
        self.success.labels(self._model_name, trace.stop.value).inc()
        for turn in trace.turns:
            calls = turn.calls
            for one in turn.observations:
                called = calls[one.call].name if one.call < len(calls) else "unparsed"
                name = called if called in trace.settings.operations else "unknown"
                outcome = "executed" if one.error is None else "rejected"
                self.operations.labels(self._model_name, name, outcome).inc()

    def count(self, counter: Counter, *labels: str) -> None:
        """Add one to a counter."""
        counter.labels(self._model_name, *labels).inc()

    def observe(self, histogram: Histogram, seconds: float, *labels: str) -> None:
        """Add an observation to a histogram."""
        histogram.labels(self._model_name, *labels).observe(seconds)

    def track(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Read a gauge from a function."""
        gauge.labels(self._model_name).set_function(value)

    def track_cache(self, usage: Callable[[], CacheUsage]) -> None:
        """Read the use of the KV cache of an engine in this process from a function."""
        self.registry.register(_CacheCollector(self._model_name, usage))

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, ("model_name", *labels), registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(PREFIX + name, text, ("model_name",), registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(
            PREFIX + name,
            text,
            ("model_name", *labels),
            registry=self.registry,
            buckets=_SECONDS,
        )


class _CacheCollector(Collector):
    """Metrics of a KV cache, read when they are requested."""

    def __init__(self, model_name: str, usage: Callable[[], CacheUsage]) -> None:
        self._model_name, self._usage = model_name, usage

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        usage = self._usage()
        fraction = GaugeMetricFamily(
            PREFIX + "kv_cache_usage_perc",
            "KV cache of finished turns as a fraction of its limit.",
            labels=["model_name"],
        )
        fraction.add_metric([self._model_name], usage.memory_fraction)
        yield fraction
        for name, text, value in (
            ("prefix_cache_queries", "Tokens of prompts.", usage.num_prompt_tokens),
            ("prefix_cache_hits", "Tokens of prompts in the cache.", usage.num_reused_tokens),
        ):
            counter = CounterMetricFamily(PREFIX + name, text, labels=["model_name"])
            counter.add_metric([self._model_name], value)
            yield counter
