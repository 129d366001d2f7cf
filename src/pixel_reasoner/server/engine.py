"""Bridge between the event loop and one scheduler, which all requests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pixel_reasoner.errors import EndpointError, InputError, UsageError
from pixel_reasoner.media.decoder import MediaDecoder
from pixel_reasoner.models.api import CacheUsage, GenerationModel
from pixel_reasoner.models.http_errors import RequestFailed
from pixel_reasoner.rollout.request import RolloutHandle, RolloutRequest
from pixel_reasoner.rollout.scheduler import RolloutScheduler, share_scheduler
from pixel_reasoner.rollout.strategies import SINGLE, check_strategy
from pixel_reasoner.rollout.strategies.handle import StrategyRunner
from pixel_reasoner.rollout.strategies.session import Scope
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.confidence import load_calibration
from pixel_reasoner.server.chat import ChatJob, budgets_of
from pixel_reasoner.server.conversation import (
    ConversationMemory,
    Exchange,
    Kept,
    Opening,
    conversation_key,
)
from pixel_reasoner.server.errors import ApiError, api_error
from pixel_reasoner.server.media import path_names
from pixel_reasoner.server.metrics import Metrics
from pixel_reasoner.server.reply import Reply, Usage, build_reply, count_usage, with_reasoning
from pixel_reasoner.server.rollout_times import RolloutTimes
from pixel_reasoner.server.settings import ServerSettings
from pixel_reasoner.server.special_tokens import SpecialTokenEscaper

FAST_PRIORITY = 1
FAST_SLOTS = 2
"""Rollouts in progress in addition to `max_running`. Each rollout has decoded pictures in memory."""
MAX_STEP_S = 60.0
"""time without a step of the scheduler after which the server is not ready"""

OnTrace = Callable[[str, Trace], None]
"""called with the client and the trace of each answered request"""


@dataclass
class Run:
    """One rollout of a request."""

    index: int
    handle: RolloutHandle
    job: ChatJob
    opening: Opening
    names: dict[str, str]
    """path of each file -> its name for the client"""


@dataclass(frozen=True)
class Result:
    """Reply and usage of one rollout."""

    index: int
    reply: Reply
    usage: Usage
    trace_id: str


class RolloutEngine:
    """All rollouts of the server. `start` and `close` are blocking; the other methods are for the event loop."""

    def __init__(
        self,
        model: GenerationModel,
        settings: ServerSettings,
        metrics: Metrics,
        decoder: MediaDecoder,
    ) -> None:
        self.model = model
        self.settings = settings
        self.metrics = metrics
        self.escape = SpecialTokenEscaper(model)
        self.on_trace: list[OnTrace] = []
        self.scheduler = RolloutScheduler(
            model,
            max_active=settings.max_running + min(FAST_SLOTS, settings.fast_lane_requests),
            max_queued=2 * settings.max_waiting + settings.max_running,
        )
        self.scheduler.decode_with(decoder)
        share_scheduler(model, self.scheduler)  # with the MCP server
        self.memory = ConversationMemory(settings.max_kept_px, self.scheduler.release)
        self.scheduler.observers.append(RolloutTimes(metrics))
        self.strategies = _strategies(self.scheduler, settings)
        if self.scheduler.cache_usage is not None:
            metrics.track_cache(self._cache_usage)

    def start(self) -> None:
        """Start the thread of the scheduler."""
        self.scheduler.start()

    def close(self) -> None:
        """Cancel all rollouts and close the model."""
        if self.strategies is not None:
            self.strategies.close()
        self.scheduler.close()
        close = getattr(self.model, "close", None)
        if close is not None:
            close()

    @property
    def is_responsive(self) -> bool:
        """Whether the scheduler made a step lately."""
        return not self.scheduler.is_closed and self.scheduler.seconds_since_step < MAX_STEP_S

    def cancel_all(self) -> None:
        """Cancel all rollouts in progress, also those of MCP clients."""
        self.scheduler.cancel_all()

    def submit(self, job: ChatJob, items: list[MediaItem], *, is_fast: bool) -> list[Run]:
        """Submit all rollouts of a request."""
        names = path_names(items)
        left = iter(items)
        exchanges = tuple(
            Exchange(one.text, tuple(next(left) for _ in one.sources), one.reply)
            for one in job.exchanges
        )
        runs: list[Run] = []
        try:
            for index in range(job.num_choices):
                opening = self._opening(job, exchanges, index)
                handle = self._submit(job, opening, index, is_fast=is_fast)
                runs.append(Run(index, handle, job, opening, names))
        except BaseException:
            self.cancel(runs)
            raise
        return runs

    def cancel(self, runs: list[Run]) -> None:
        """Stop the rollouts of a request. Finished ones are ignored."""
        for run in runs:
            run.handle.cancel()

    async def results(self, runs: list[Run]) -> list[Result]:
        """Wait for all rollouts of a request.

        Raises:
            ApiError: one of them failed.
        """
        await asyncio.gather(*(run.handle.aresult() for run in runs))
        return [self.result(run, _trace(run)) for run in runs]

    def result(self, run: Run, trace: Trace) -> Result:
        """Return the reply of a finished rollout, count it, and keep its conversation.

        Args:
            run: the rollout.
            trace: its trace; the last event carries it before the handle does.

        Raises:
            ApiError: it failed.
        """
        if run.handle.error is not None:
            if isinstance(run.handle.error, InputError):
                self.metrics.count(self.metrics.rejected_media, "unusable")
            self._recover(run.handle.error)
            raise api_error(run.handle.error, run.names) from run.handle.error
        if not trace.turns and trace.stop is not StopReason.ANSWERED:
            raise _too_long(trace)
        if run.job.overrides_prompt:
            prompt = run.job.prompt
            changed = {"dialect": prompt.dialect, "budgets": budgets_of(prompt)}
            settings = trace.settings.model_copy(update=changed)
            trace = trace.model_copy(update={"settings": settings})
        usage = count_usage(trace, budgets_of(run.job.prompt))
        self.metrics.add_trace(
            trace, usage.prompt_tokens, usage.completion_tokens, usage.picture_tokens
        )
        reply = build_reply(trace, run.job.stop)
        self._keep(run, reply)
        for listener in self.on_trace:
            listener(run.job.client, trace)
        return Result(run.index, reply, usage, run.handle.id)

    def _recover(self, error: BaseException) -> None:
        """Let a later request try upstream servers again that failed."""
        is_fatal = isinstance(error, EndpointError) and not isinstance(error, RequestFailed)
        recover = getattr(self.model, "recover", None)
        if is_fatal and recover is not None:
            recover()

    # --- requests of the scheduler ---

    def _opening(self, job: ChatJob, exchanges: tuple[Exchange, ...], index: int) -> Opening:
        config, system = job.config, job.system
        if index:
            sampling: SamplingParams = config.sampling
            changed = sampling.model_copy(update={"seed": sampling.seed + index})
            config = config.model_copy(update={"sampling": changed})
        if system and self.scheduler.capabilities.native_tools:
            # With native tool calls the system message is replaced, so instructions are part of the first question.
            first = exchanges[0]._replace(text=f"{system}\n\n{exchanges[0].text}")
            exchanges, system = (first, *exchanges[1:]), ""
        return Opening(f"{job.id}-{index}", job.client, job.prompt, config, system, exchanges)

    def _submit(
        self, job: ChatJob, opening: Opening, index: int, *, is_fast: bool
    ) -> RolloutHandle:
        request = RolloutRequest(
            question=opening.question,
            config=opening.config,
            id=opening.id,
            priority=FAST_PRIORITY if is_fast else 0,
            deadline_s=self.settings.request_timeout_s,
            stream=job.stream,
            keep=index == 0 and not is_fast,
            open_rollout=opening,
        )
        if self.strategies is not None and opening.question.media and not is_fast:
            return self.strategies.submit(
                replace(request, keep=False, config=self._sampled(opening.config)),
                Scope(lambda config: replace(opening, config=config)),
            )
        kept = self._find(opening) if index == 0 else None
        return self._continue(request, opening, kept) if kept else self.scheduler.submit(request)

    def _sampled(self, config: RolloutConfig) -> RolloutConfig:
        """Return the configuration of a strategy. One that compares samples never runs at temperature 0."""
        assert self.strategies is not None, "the server has a strategy"
        if config.sampling.temperature or not self.strategies.spec.is_sampled:
            return config
        temperature = self.settings.config.sampling.temperature
        sampling = config.sampling.model_copy(update={"temperature": temperature})
        return config.model_copy(update={"sampling": sampling})

    def _continue(self, request: RolloutRequest, opening: Opening, kept: Kept) -> RolloutHandle:
        """Continue a kept conversation: in its session the first time, otherwise as a fork."""
        if not kept.is_continued:
            kept.is_continued = True
            try:
                continuing = replace(request, open_rollout=None)
                return self.scheduler.submit(continuing, continues=kept.request_id)
            except UsageError:  # the scheduler released it
                pass
        forked: Any = opening.continued(kept.rollout)
        return self.scheduler.submit(replace(request, open_rollout=forked))

    def _find(self, opening: Opening) -> Kept | None:
        if len(opening.exchanges) == 1:
            return None
        self.metrics.count(self.metrics.conversation_queries)
        kept = self.memory.find(self._key(opening, opening.exchanges[:-1]))
        if kept is not None:
            self.metrics.count(self.metrics.conversation_hits)
        return kept

    def _keep(self, run: Run, reply: Reply) -> None:
        rollout = run.handle.rollout
        if not run.handle.request.keep or rollout is None:
            return
        opening = run.opening
        last = opening.exchanges[-1]._replace(reply=self.sent_content(reply))
        key = self._key(opening, (*opening.exchanges[:-1], last))
        self.memory.add(key, run.handle.id, rollout)

    def _key(self, opening: Opening, past: tuple[Exchange, ...]) -> str:
        return conversation_key(
            opening.client, opening.prompt, opening.system, opening.config.operations, past
        )

    def sent_content(self, reply: Reply) -> str:
        """Return the content that the client received and sends back, with escaped special tokens."""
        sent: str = with_reasoning(reply, self.settings.reasoning_field)["content"]
        return self.escape(sent)

    def _cache_usage(self) -> CacheUsage:
        usage = self.scheduler.cache_usage
        assert usage is not None, "only tracked if the backend has a cache"
        return usage

    @property
    def num_running(self) -> int:
        """Rollouts in progress."""
        return min(self.scheduler.num_unfinished, self.settings.max_running)

    @property
    def num_waiting(self) -> int:
        """Rollouts that wait for others to end."""
        return max(0, self.scheduler.num_unfinished - self.settings.max_running)


def _strategies(scheduler: RolloutScheduler, settings: ServerSettings) -> StrategyRunner | None:
    """Return the runner of the strategy of the server; None for single rollouts.

    Raises:
        UsageError: a strategy that cannot be used.
    """
    spec = check_strategy(settings.strategy, settings.config, settings.calibration)
    if spec.name == SINGLE:
        return None
    fitted = load_calibration(settings.calibration) if settings.calibration else None
    return StrategyRunner(scheduler, spec, fitted, settings.max_running)


def _trace(run: Run) -> Trace:
    assert run.handle.trace is not None, "the rollout is done"
    return run.handle.trace


def _too_long(trace: Trace) -> ApiError:
    if trace.stop is StopReason.MAX_PICTURES:
        limit = trace.settings.limits.max_pictures
        return ApiError(
            400,
            f"messages: more than {limit} pictures (sampled frames count)",
            param="messages",
            code="context_length_exceeded",
        )
    return ApiError(
        400,
        "messages: the conversation and max_tokens do not fit into the context of the model",
        param="messages",
        code="context_length_exceeded",
    )
