"""Session of a strategy: the rollouts of one question, and the record of what they looked at, answered and cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pixel_reasoner.errors import InputError, PixelReasonerError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.rollout.request import RolloutHandle, RolloutRequest
from pixel_reasoner.rollout.scheduler import RolloutScheduler
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.rollout.strategies.regions import Place
from pixel_reasoner.rollout.usage import rollout_usage
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.strategy import Candidate, CandidateKind, Region, StrategyRecord, Usage
from pixel_reasoner.schema.trace import Picture, StopReason, Trace
from pixel_reasoner.scoring.confidence import answer_probability
from pixel_reasoner.scoring.extraction import extract_trace_answer
from pixel_reasoner.scoring.voting import AnswerGroups, majority

PROBE_TOKENS = 16
"""generated tokens at the end of the answer to a probe that decide between yes and no; earlier words vary at random"""
OpenRollout = Callable[[MediaCache], Rollout]
"""returns the rollout of a question before its first turn"""


@dataclass(frozen=True)
class Scope:
    """Where the rollouts of a strategy come from: how they start, and their place in the queue.

    The server gives one with the conversation before the question.
    """

    open_rollout: Callable[[RolloutConfig], OpenRollout] | None = None
    priority: int = 0
    deadline_at: float | None = None
    """`time.monotonic()` at which all rollouts end"""


class ScopedScheduler:
    """Scheduler whose requests start in a scope. It remembers its requests, so that all of them can be cancelled.

    Args:
        scheduler: receives the requests.
        scope: of the requests.
    """

    def __init__(self, scheduler: RolloutScheduler, scope: Scope = Scope()) -> None:
        self.scheduler = scheduler
        self.scope = scope
        self.handles: list[RolloutHandle] = []
        """requests so far"""
        self.is_cancelled = False

    @property
    def model(self) -> Any:
        """Model of the scheduler."""
        return self.scheduler.model

    @property
    def media(self) -> MediaCache:
        """Cache of open media."""
        return self.scheduler.media

    def submit(self, request: RolloutRequest, *, continues: str | None = None) -> RolloutHandle:
        """Accept a request of the strategy. For arguments and errors see `RolloutScheduler.submit`."""
        scope = self.scope
        if scope.open_rollout is not None and not (request.open_rollout or request.rollout):
            request = replace(request, open_rollout=scope.open_rollout(request.config))
        if scope.deadline_at is not None:
            request = replace(request, deadline_s=max(1e-3, scope.deadline_at - time.monotonic()))
        handle = self.scheduler.submit(
            replace(request, priority=max(request.priority, scope.priority)), continues=continues
        )
        self.handles.append(handle)
        if self.is_cancelled:
            handle.cancel()
        return handle

    def cancel(self) -> None:
        """Cancel all requests of the strategy, also later ones."""
        self.is_cancelled = True
        for handle in list(self.handles):
            handle.cancel()

    def opener(self, question: Question, config: RolloutConfig) -> OpenRollout:
        """Return the function that opens the rollout of the question."""
        if self.scope.open_rollout is not None:
            return self.scope.open_rollout(config)
        return _opener(self.scheduler, question, config)


AnyScheduler = RolloutScheduler | ScopedScheduler


def _opener(scheduler: RolloutScheduler, question: Question, config: RolloutConfig) -> OpenRollout:
    def opened(cache: MediaCache) -> Rollout:
        return scheduler.open_rollout(question, config, cache)

    return opened


@dataclass
class StrategySession:
    """Rollouts of one question and their record.

    Args:
        question: text and media.
        scheduler: runs the rollouts.
        config: of the rollouts.
        name: of the strategy.
        options: of the strategy, defaults included.
    """

    question: Question
    scheduler: AnyScheduler
    config: RolloutConfig
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    usage: Usage | None = None
    base: Rollout | None = None
    """rollout before its first turn; candidates are forks of it"""

    # --- media ---

    def open_pictures(self) -> tuple[Picture, ...]:
        """Open the media of the question and return its pictures; none if it has a clip or an unusable medium."""
        if any(item.kind != "image" for item in self.question.media):
            return ()
        opened = (
            self.scheduler.opener(self.question, self.config)
            if isinstance(self.scheduler, ScopedScheduler)
            else _opener(self.scheduler, self.question, self.config)
        )
        try:
            self.base = opened(self.scheduler.media)
        except InputError:
            return ()  # the rollout of the question reports it
        return self.base.new_pictures if self.base.stop is None else ()

    # --- rollouts ---

    def sample(self, number: int) -> RolloutHandle:
        """Submit a rollout of the question with the seed of the configuration plus `number`."""
        sampling = self.config.sampling
        sampled = sampling.model_copy(update={"seed": sampling.seed + number})
        config = self.config.model_copy(update={"sampling": sampled})
        return self.scheduler.submit(RolloutRequest(question=self.question, config=config))

    def look(self, places: Sequence[Place]) -> RolloutHandle:
        """Submit a rollout that starts with regions, each shown in a turn of its own; without regions an ordinary one."""

        def opened(cache: MediaCache) -> Rollout:
            del cache
            rollout = self._fork()
            for number, box in places:
                if rollout.stop is None:
                    rollout.show_region(number, box)
            return rollout

        return self._submit(self.question, opened)

    def prompt(self, places: Sequence[Place]) -> RolloutHandle:
        """Submit a rollout whose first message contains regions next to the pictures of the question."""

        def opened(cache: MediaCache) -> Rollout:
            del cache
            rollout = self._fork()
            rollout.add_regions(places)
            return rollout

        return self._submit(self.question, opened)

    def probe(self, place: Place, text: str) -> RolloutHandle:
        """Submit a question with the answer yes or no about a region alone, without operations."""
        base = self.base
        assert base is not None, "media are open"
        question = Question(id=self.question.id, text=text, media=self.question.media)
        config = self.config.model_copy(
            update={
                "operations": (),
                "sampling": self.config.sampling.model_copy(update={"temperature": 0.0}),
            }
        )

        def opened(cache: MediaCache) -> Rollout:
            del cache
            context = base.context.of_region(*place)
            return Rollout(question, self.scheduler.model, config, context)

        return self._submit(question, opened, config)

    def _fork(self) -> Rollout:
        assert self.base is not None, "media are open"
        return self.base.fork()

    def _submit(
        self, question: Question, opened: OpenRollout, config: RolloutConfig | None = None
    ) -> RolloutHandle:
        return self.scheduler.submit(
            RolloutRequest(question=question, config=config or self.config, open_rollout=opened)
        )

    def finish(self, handle: RolloutHandle) -> Trace:
        """Wait for a rollout, add its cost, and return its trace. Errors of the backend are raised."""
        trace = handle.result()
        error = handle.error
        if error is not None and (handle.is_fatal or not isinstance(error, PixelReasonerError)):
            raise error
        cost = rollout_usage(trace)
        self.usage = cost if self.usage is None else self.usage + cost
        return trace

    # --- the record ---

    def add(self, trace: Trace, **fields: Any) -> Candidate:
        """Add a finished rollout to the record and return it."""
        seen = [
            one
            for one in trace.all_pictures.values()
            if one.parent is not None or fields.get("kind") is CandidateKind.PROBE
        ]
        candidate = Candidate(
            **{
                "answer": extract_trace_answer(trace),
                "score": score_of(trace),
                "regions": tuple(
                    Region(medium=one.medium, frame=one.frame, box=one.box, seen_px=one.seen_px)
                    for one in seen
                ),
                **fields,
            }
        )
        self.candidates.append(candidate)
        return candidate

    def result(self, trace: Trace, *, confidence: float | None = None, note: str = "") -> Trace:
        """Return the selected trace with the record of all rollouts."""
        record = StrategyRecord(
            name=self.name,
            options=self.options,
            candidates=tuple(self.candidates),
            confidence=confidence,
            usage=self.usage or Usage(),
        )
        notes = (*trace.notes, note) if note else trace.notes
        return trace.model_copy(update={"strategy": record, "notes": notes})

    def answer_plainly(self) -> Trace:
        """Return the trace of one ordinary rollout, for a question that the strategy cannot support."""
        trace = self.finish(self.sample(0))
        self.add(trace, is_selected=True)
        return self.result(trace, confidence=self.candidates[-1].score)

    def answer_best(self, handles: Sequence[RolloutHandle]) -> Trace:
        """Return the most probable answer of rollouts; without log-probabilities the most frequent one."""
        traces = [self.finish(handle) for handle in handles]
        first = len(self.candidates)
        for trace in traces:
            self.add(trace)
        chosen = choose(self.question, traces)
        self.select(first + chosen)
        return self.result(traces[chosen], confidence=self.candidates[first + chosen].score)

    def select(self, index: int, **fields: Any) -> None:
        """Mark a candidate as selected."""
        self.candidates[index] = self.candidates[index].model_copy(
            update={"is_selected": True, **fields}
        )


def score_of(trace: Trace) -> float | None:
    """Return the probability of the answer of a trace; 0 without an answer, None if unknown."""
    if extract_trace_answer(trace) is None or not trace.turns:
        return 0.0
    found = answer_probability(trace.turns[-1])
    return None if found is None else round(found, 6)


def choose(question: Question, traces: Sequence[Trace]) -> int:
    """Return the index of the most probable answer; without log-probabilities of the most frequent one."""
    scores = [score_of(trace) for trace in traces]
    known = [score if score is not None else -1.0 for score in scores]
    if max(known) > 0:
        return known.index(max(known))
    groups = AnswerGroups(question)
    votes = [groups.add(extract_trace_answer(trace)) for trace in traces]
    winner = majority(votes)
    return 0 if winner is None else votes.index(winner)


def yes_probability(trace: Trace) -> float:
    """Return the probability of "yes" of the answer to a probe; one half without an answer."""
    answer = (extract_trace_answer(trace) or "").strip().lower()
    if trace.stop is StopReason.FAILED or not answer.startswith(("yes", "no")):
        return 0.5
    found = answer_probability(trace.turns[-1], PROBE_TOKENS)
    certainty = 0.5 * (1.0 if found is None else found)
    return round(0.5 + certainty if answer.startswith("yes") else 0.5 - certainty, 6)


__all__ = ["Scope", "ScopedScheduler", "StrategySession", "choose", "yes_probability"]
