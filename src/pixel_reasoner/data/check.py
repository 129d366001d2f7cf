"""Checks of traces before training, against their questions and pixels.

gold      the expected answer scores 1 and a wrong answer 0; the trace's own answer scores 1
evidence  an executed crop contains the evidence, or its frames were selected
replay    every turn, parsed and executed again, gives the same call and the same pixels
mistakes  a turn marked as a mistake calls an operation; a rejected call is marked
held out  no question from PixelWorld's validation or test split, none from a file of evaluation questions
distinct  each question occurs once
tokens    the trace can be encoded for a model (only where one is given)

A sampled trace, for example an RL rollout, may be wrong, contain rejected calls and share its question with its group.
Such a
file passes if it replays: `gold` checks the expected answer only, `evidence`, `mistakes` and `distinct` are skipped,
and
accuracy and evidence hits are reported as metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, NamedTuple

import numpy as np

from pixel_reasoner.data.expert import Kind, classify_trace
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.rollout.replay import replay_trace
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.repairs import num_malformed_calls
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.scoring.grading import Outcome, grade, is_right
from pixel_reasoner.world import FAMILIES, SPLITS
from pixel_reasoner.world.v2 import FAMILIES as FAMILIES_2

WRONG_ANSWER = "wrong"
"""answer that no question accepts"""
_WORLD_FAMILIES = frozenset({*FAMILIES, *FAMILIES_2})
MAX_NAMED = 20
"""maximum number of listed problems; all are counted"""
_ENDED_OUTSIDE = (
    StopReason.MAX_CONTEXT,
    StopReason.FAILED,
    StopReason.CANCELLED,
    StopReason.DEADLINE,
)
"""stop reasons that do not follow from the texts, so a replay cannot reproduce them"""


class Problem(NamedTuple):
    """Problem of one trace."""

    question: str
    check: str
    detail: str


class Verdict(NamedTuple):
    """Result of the checks."""

    checked: int
    """traces"""
    problems: dict[str, int]
    """check -> number of traces that fail it"""
    named: list[Problem]
    """first problems"""
    metrics: dict[str, Any]
    """metrics of the traces"""

    @property
    def passed(self) -> bool:
        """Whether there is at least one trace and no problem."""
        return self.checked > 0 and not self.problems


def is_sampled(trace: Trace) -> bool:
    """Return whether a trace is a rollout of a policy in training, which may be wrong."""
    return trace.settings.training is not None


def check_traces(
    traces: Iterable[Trace],
    *,
    held_out: frozenset[str] = frozenset(),
    count_tokens: Callable[[Trace], int] | None = None,
    on_trace: Callable[[], None] = lambda: None,
    sampled: bool | None = None,
) -> Verdict:
    """Check traces one by one. Memory grows only with the question ids.

    Args:
        traces: with media paths that can be opened.
        held_out: ids of questions that must not be trained on.
        count_tokens: returns the length of a trace in tokens of a model.
        on_trace: called after each trace.
        sampled: whether the traces were sampled from a model; None: inferred per trace with `is_sampled`.
    """
    tally = _Tally()
    contexts = MediaCache(max_entries=1)  # traces about one file are usually adjacent
    for trace in traces:
        of_model = is_sampled(trace) if sampled is None else sampled
        found = list(find_problems(trace, held_out, contexts, sampled=of_model))
        if count_tokens is not None:
            try:
                tally.tokens.append(count_tokens(trace))
            except (InputError, UsageError) as error:
                if not any(problem.check == "replay" for problem in found):
                    found.append(Problem(trace.question.id, "tokens", str(error)))
        tally.add(trace, found, sampled=of_model)
        on_trace()
    problems = dict(sorted(tally.problems.items()))
    return Verdict(tally.count, problems, tally.named, tally.metrics())


@dataclass
class _Tally:
    """Counts of a check."""

    count: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    named: list[Problem] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)
    pictures: int = 0
    tokens: list[int] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    """for each sampled trace, whether its answer is right"""
    hits: list[bool] = field(default_factory=list)
    """for each sampled trace with evidence, whether the evidence was shown"""
    known_ids: set[str] = field(default_factory=set)

    def add(self, trace: Trace, found: list[Problem], *, sampled: bool) -> None:
        """Count a trace and its problems."""
        self.count += 1
        name = trace.question.id
        if name in self.known_ids and not sampled:
            found = [*found, Problem(name, "distinct", "the question occurs twice")]
        self.known_ids.add(name)
        self.problems.update({problem.check for problem in found})
        self.named += found[: max(0, MAX_NAMED - len(self.named))]
        self.kinds["sampled" if sampled else classify_trace(trace) or "unknown"] += 1
        self.turns[len(trace.turns)] += 1
        self.pictures += len(trace.all_pictures)
        if sampled:
            self.right.append(bool(is_right(trace)))
            hit = evidence_hit(trace)
            self.hits += [] if hit is None else [hit]

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the traces."""
        metrics: dict[str, Any] = {
            "kinds": dict(sorted(self.kinds.items())),
            "turns": dict(sorted(self.turns.items())),
            "pictures": self.pictures,
        }
        if self.right:
            metrics["accuracy"] = round(mean(self.right), 3)
        if self.hits:
            metrics["evidence"] = round(mean(self.hits), 3)
        if self.tokens:
            metrics["tokens"] = {
                "sum": sum(self.tokens),
                "mean": round(mean(self.tokens), 1),
                "longest": max(self.tokens),
            }
        return metrics


def find_problems(
    trace: Trace,
    held_out: frozenset[str] = frozenset(),
    contexts: MediaCache | None = None,
    *,
    sampled: bool = False,
) -> Iterator[Problem]:
    """Yield every problem of one trace."""
    cache = contexts or MediaCache(max_entries=1)
    checks: dict[str, Callable[[], str | None]] = {
        "gold": lambda: _gold(trace, sampled=sampled),
        "evidence": lambda: None if sampled else _evidence(trace),
        "replay": lambda: _replay(trace, cache),
        "mistakes": lambda: None if sampled else _mistakes(trace),
        "held_out": lambda: _held_out(trace.question, held_out),
    }
    for check, run in checks.items():
        problem = run()
        if problem is not None:
            yield Problem(trace.question.id, check, problem)


def _gold(trace: Trace, *, sampled: bool) -> str | None:
    question = trace.question
    if not question.answer:
        return "no expected answer"
    right = grade(question.answer[0], question)
    if right is None or right.score < 1:
        return f"the expected answer {question.answer[0]!r} does not score 1"
    wrong = grade(WRONG_ANSWER, question)
    if wrong is None or wrong.outcome is Outcome.CORRECT:
        return f"{WRONG_ANSWER!r} counts as right"
    if not sampled and not is_right(trace):
        return f"the trace answers {trace.answer!r}, expected {question.answer[0]!r}"
    return None


def _evidence(trace: Trace) -> str | None:
    if classify_trace(trace) == Kind.TEXT:
        return "an executed operation in a trace without one" if trace.executed else None
    return "no executed operation shows the evidence" if evidence_hit(trace) is False else None


def _mistakes(trace: Trace) -> str | None:
    for number, turn in enumerate(trace.turns, start=1):
        if turn.mistake and turn.observation is None:
            return f"turn {number} is marked as a mistake but has no call"
        if turn.observation and turn.observation.error and not turn.mistake:
            return f"turn {number} was rejected but is not marked as a mistake"
        if num_malformed_calls(turn.repairs):
            return f"turn {number} contains a malformed call, which was repaired"
    return None


def _held_out(question: Question, held_out: frozenset[str]) -> str | None:
    family, _, rest = question.id.removeprefix("w2-").partition("-")
    seed = rest.partition("-")[0]
    if family in _WORLD_FAMILIES and seed.isdigit() and int(seed) >= SPLITS["train"][1]:
        return "a scene of PixelWorld's validation or test split"
    if question.id in held_out:
        return "the id of an evaluation question"
    return None


def _replay(trace: Trace, contexts: MediaCache) -> str | None:
    """Return how a replay of the trace differs in calls, observations, stop reason or pixels; None if it does not."""
    settings = trace.settings
    try:
        budgets = settings.budgets or get_dialect(settings.dialect).budgets
        limits = settings.media.within(DEFAULT_MEDIA_LIMITS)
        context = contexts.open(trace.question, budgets, limits, sampling=trace.sampling)
        again = replay_trace(trace, context)
        recorded = context.replay(trace)
        return _difference(trace, again) or _pixel_difference(trace, again.context, recorded)
    except (InputError, UsageError) as error:
        return str(error)


def _difference(trace: Trace, again: Rollout) -> str | None:
    for number, (now, turn) in enumerate(zip(again.turns, trace.turns, strict=False), start=1):
        # Traces of schema version 1 recorded only executed and rejected calls.
        calls = (now.calls, turn.calls) if turn.observations else ([], [])
        if calls[0] != calls[1] or now.observations != turn.observations:
            return f"turn {number} gives another call or observation"
    if len(again.turns) < len(trace.turns):
        return f"the rollout stops before turn {len(again.turns) + 1} ({again.stop})"
    if trace.stop in _ENDED_OUTSIDE and again.stop is None:
        return None
    if (again.stop, again.answer) != (trace.stop, trace.answer):
        return f"the rollout stops with {again.stop} and {again.answer!r}"
    return None


def _pixel_difference(trace: Trace, again: MediaContext, recorded: MediaContext) -> str | None:
    for number in trace.all_pictures:
        now_px, then_px = (np.asarray(context.view(number)) for context in (again, recorded))
        if not np.array_equal(now_px, then_px):
            return f"picture {number} has other pixels"
    return None
