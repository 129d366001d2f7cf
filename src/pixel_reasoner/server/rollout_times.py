"""Times of rollouts for metrics, measured at the events of the scheduler: of all requests, streamed or not."""

from __future__ import annotations

from dataclasses import dataclass

from pixel_reasoner.rollout.request import RolloutRequest
from pixel_reasoner.schema.events import (
    CallParsed,
    Event,
    Failed,
    Finished,
    TurnDone,
    TurnStarted,
)
from pixel_reasoner.server.metrics import Metrics


@dataclass
class _Times:
    """Times of one rollout, in seconds since it was submitted."""

    is_queued: bool = True
    turn_started_s: float | None = None
    """start of the turn that is being generated"""
    generated_s: float = 0.0
    """of the last turn"""
    all_generated_s: float = 0.0
    num_tokens: int = 0


class RolloutTimes:
    """Observer of a scheduler. The events of one rollout do not overlap; those of different rollouts do."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._times: dict[str, _Times] = {}

    def submitted(self, request: RolloutRequest) -> None:
        """Start to measure a rollout."""
        self._times[request.id] = _Times()

    def event(self, event: Event) -> None:
        """Measure until an event, and observe what has ended."""
        times = self._times.get(event.request_id)
        if times is None:
            return
        if isinstance(event, TurnStarted):
            if times.is_queued:
                times.is_queued = False
                self.metrics.observe(self.metrics.queue_time, event.at_s)
            times.turn_started_s = event.at_s
        elif isinstance(event, CallParsed | TurnDone) and times.turn_started_s is not None:
            times.generated_s = event.at_s - times.turn_started_s
            times.all_generated_s += times.generated_s
            times.turn_started_s = None
        if isinstance(event, TurnDone):
            self._add_turn(times, event.record.num_new_tokens)
        elif isinstance(event, Finished | Failed):
            self._end(self._times.pop(event.request_id))

    def _add_turn(self, times: _Times, num_tokens: int | None) -> None:
        if num_tokens:
            times.num_tokens += num_tokens
            self.metrics.observe(self.metrics.inter_token, times.generated_s / num_tokens)

    def _end(self, times: _Times) -> None:
        metrics = self.metrics
        if times.all_generated_s:
            metrics.observe(metrics.inference_time, times.all_generated_s)
        if times.num_tokens:
            per_token = times.all_generated_s / times.num_tokens
            metrics.observe(metrics.time_per_output_token, per_token)
