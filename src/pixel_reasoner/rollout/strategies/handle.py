"""Strategies behind the interface of a rollout: a handle with events and a result, for the server."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from pixel_reasoner.rollout.request import RolloutHandle, RolloutRequest
from pixel_reasoner.rollout.scheduler import RolloutScheduler
from pixel_reasoner.rollout.state import collect_settings, failed_trace
from pixel_reasoner.rollout.strategies import StrategySpec, run_strategy
from pixel_reasoner.rollout.strategies.session import Scope, ScopedScheduler
from pixel_reasoner.schema.events import CallParsed, Observed, TurnDone, TurnStarted
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.confidence import Calibration


class StrategyHandle(RolloutHandle):
    """Handle of a question that a strategy answers. Its events are those of the selected rollout, when it is known.

    Args:
        scheduler: runs the rollouts of the strategy.
        request: the question, its configuration and its deadline.
        scope: how the rollouts start.
    """

    is_observed = False
    """the rollouts are observed, each by itself"""

    def __init__(self, scheduler: RolloutScheduler, request: RolloutRequest, scope: Scope) -> None:
        super().__init__(scheduler, request)
        self.scoped = ScopedScheduler(scheduler, scope)

    def cancel(self) -> None:
        """Stop all rollouts of the strategy. No effect on a finished one."""
        self.scoped.cancel()

    def run(self, spec: StrategySpec, calibration: Calibration | None) -> None:
        """Run the strategy, emit the events of the selected trace, and end. Called in a thread; never raises."""
        request = self.request
        try:
            trace = run_strategy(spec, request.question, self.scoped, request.config, calibration)
        except BaseException as error:  # noqa: BLE001 - a client waits for the end
            settings = collect_settings(self.scheduler.model, request.config)
            self.end(failed_trace(request.question, error, settings), error)
            return
        if trace.error is not None:
            self.end(trace, self._error_of(trace))
            return
        self._emit_turns(trace)
        self.end(trace)

    def _error_of(self, trace: Trace) -> BaseException | None:
        """Return the error of the rollout that a failed trace comes from."""
        errors = (one.error for one in self.scoped.handles if one.error is not None)
        return next((one for one in errors if str(one) == trace.error), None)

    def _emit_turns(self, trace: Trace) -> None:
        for number, turn in enumerate(trace.turns):
            self.emit(TurnStarted, turn=number)
            for call in turn.calls:
                self.emit(CallParsed, turn=number, call=call)
            for observation in turn.observations:
                self.emit(Observed, turn=number, observation=observation)
            self.emit(TurnDone, turn=number, record=turn)


class StrategyRunner:
    """Threads that run strategies, one question each.

    Args:
        scheduler: runs the rollouts.
        spec: the strategy of all questions.
        calibration: of its confidence; None for none.
        num_threads: questions in progress at once; further ones wait.
    """

    def __init__(
        self,
        scheduler: RolloutScheduler,
        spec: StrategySpec,
        calibration: Calibration | None,
        num_threads: int,
    ) -> None:
        self.spec = spec
        self._scheduler = scheduler
        self._calibration = calibration
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="strategy")

    def submit(self, request: RolloutRequest, scope: Scope) -> StrategyHandle:
        """Accept a question.

        Args:
            request: the question, its configuration and its deadline.
            scope: how its rollouts start.
        """
        if request.deadline_s is not None:
            deadline_at = time.monotonic() + request.deadline_s
            scope = Scope(scope.open_rollout, request.priority, deadline_at)
        handle = StrategyHandle(self._scheduler, request, scope)
        self._pool.submit(handle.run, self.spec, self._calibration)
        return handle

    def close(self) -> None:
        """Drop questions that have not started."""
        self._pool.shutdown(wait=False, cancel_futures=True)


__all__ = ["StrategyHandle", "StrategyRunner"]
