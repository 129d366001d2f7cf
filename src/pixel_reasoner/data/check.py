"""Are synthesized traces fit to train on? Every trace is checked against its question and its pixels.

gold      the expected answer scores 1 and a wrong one 0; the trace's own answer scores 1
evidence  it lies inside the executed crops, or its frames were selected
replay    every turn, parsed and executed again, gives the same call and the same pixels
mistakes  a turn marked as a mistake called an operation; a refused call is marked
held out  no question of PixelWorld's validation or test split, none of a file of evaluation questions
distinct  no question twice
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from statistics import mean
from typing import Any, NamedTuple

import numpy as np

from pixel_reasoner.data.expert import Kind, kind_of
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import InputError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.evidence import evidence_hit
from pixel_reasoner.scoring.grading import Outcome, grade, is_right
from pixel_reasoner.world import FAMILIES, SPLITS

NONSENSE = "none of the accepted answers"
MAX_NAMED = 20
"""problems that a verdict names; all are counted"""


class Problem(NamedTuple):
    """What is wrong with a trace."""

    question: str
    check: str
    detail: str


class Verdict(NamedTuple):
    """What a check found."""

    checked: int
    """traces"""
    problems: dict[str, int]
    """check -> traces that fail it"""
    named: list[Problem]
    """the first of them"""
    figures: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether there is anything to train on, and nothing wrong with it."""
        return self.checked > 0 and not self.problems


def check_traces(
    traces: Iterable[Trace],
    *,
    held_out: frozenset[str] = frozenset(),
    count_tokens: Callable[[Trace], int] | None = None,
    on_trace: Callable[[], None] = lambda: None,
) -> Verdict:
    """Check traces one by one, in constant memory but for the ids of their questions.

    Args:
        traces: with media paths that can be opened.
        held_out: ids of questions that no training may see.
        count_tokens: the length of a trace for a model.
        on_trace: called after each.
    """
    problems: Counter[str] = Counter()
    named: list[Problem] = []
    kinds: Counter[str] = Counter()
    turns: Counter[int] = Counter()
    tokens: list[int] = []
    pictures = 0
    seen: set[str] = set()
    desk = MediaCache(max_entries=1)  # traces about one file follow each other
    count = 0
    for trace in traces:
        count += 1
        found = list(problems_of(trace, held_out, desk))
        if trace.question.id in seen:
            found.append(Problem(trace.question.id, "distinct", "a question was there before"))
        seen.add(trace.question.id)
        problems.update({problem.check for problem in found})
        named += found[: max(0, MAX_NAMED - len(named))]
        kinds[kind_of(trace) or "unknown"] += 1
        turns[len(trace.turns)] += 1
        pictures += len(trace.all_pictures)
        if count_tokens is not None:
            tokens.append(count_tokens(trace))
        on_trace()
    figures = {
        "kinds": dict(sorted(kinds.items())),
        "turns": dict(sorted(turns.items())),
        "pictures": pictures,
    }
    if tokens:
        figures["tokens"] = {
            "sum": sum(tokens),
            "mean": round(mean(tokens), 1),
            "longest": max(tokens),
        }
    return Verdict(count, dict(sorted(problems.items())), named, figures)


def problems_of(
    trace: Trace, held_out: frozenset[str] = frozenset(), desk: MediaCache | None = None
) -> Iterator[Problem]:
    """Everything that is wrong with one trace."""
    name = trace.question.id
    desk = desk or MediaCache(max_entries=1)
    checks: tuple[tuple[str, Callable[[], str | None]], ...] = (
        ("gold", lambda: _gold(trace)),
        ("evidence", lambda: _evidence(trace)),
        ("replay", lambda: _replay(trace, desk)),
        ("mistakes", lambda: _mistakes(trace)),
        ("held_out", lambda: _held_out(trace.question, held_out)),
    )
    for check, run in checks:
        why = run()
        if why is not None:
            yield Problem(name, check, why)


def _gold(trace: Trace) -> str | None:
    question = trace.question
    if not question.answer:
        return "no expected answer"
    right = grade(question.answer[0], question)
    if right is None or right.score < 1:
        return f"the expected answer {question.answer[0]!r} does not score 1"
    wrong = grade(NONSENSE, question)
    if wrong is None or wrong.outcome is Outcome.CORRECT:
        return f"{NONSENSE!r} counts as right"
    if not is_right(trace):
        return f"the trace answers {trace.answer!r}, expected {question.answer[0]!r}"
    return None


def _evidence(trace: Trace) -> str | None:
    if kind_of(trace) == Kind.TEXT:
        return "a look in a trace without one" if trace.executed else None
    return "no executed look shows the evidence" if evidence_hit(trace) is False else None


def _mistakes(trace: Trace) -> str | None:
    for number, turn in enumerate(trace.turns, start=1):
        if turn.mistake and turn.observation is None:
            return f"turn {number} is marked as a mistake and calls nothing"
        if turn.observation and turn.observation.error and not turn.mistake:
            return f"turn {number} was refused and would be trained"
    return None


def _held_out(question: Question, held_out: frozenset[str]) -> str | None:
    family, _, rest = question.id.partition("-")
    seed = rest.partition("-")[0]
    if family in FAMILIES and seed.isdigit() and int(seed) >= SPLITS["train"][1]:
        return "a scene of PixelWorld's validation or test split"
    if question.id in held_out:
        return "the id of an evaluation question"
    return None


def _replay(trace: Trace, desk: MediaCache) -> str | None:
    """Run the loop again on the same texts, and compare calls, references and pixels."""
    settings = trace.settings
    try:
        budgets = settings.budgets or get_dialect(settings.dialect).budgets
        model = ScriptedModel([""], dialect=settings.dialect, budgets=budgets)
        album = desk.open(trace.question, budgets, sampling=trace.sampling)
        again = Rollout(trace.question, model, RolloutConfig(), album)
        recorded = album.replay(trace)
    except InputError as error:
        return str(error)
    for number, turn in enumerate(trace.turns, start=1):
        if again.stop is not None:
            return f"the loop stops before turn {number} ({again.stop})"
        again.take(Completion(turn.text), 0.0)
        now = again.turns[-1]
        if (now.call, now.observation) != (turn.call, turn.observation):
            return f"turn {number} gives another call or observation"
    if (again.stop, again.answer) != (trace.stop, trace.answer):
        return f"the loop stops with {again.stop} and {again.answer!r}"
    for number in trace.all_pictures:
        now_px, then_px = (np.asarray(album.view(number)) for album in (again.album, recorded))
        if not np.array_equal(now_px, then_px):
            return f"picture {number} has other pixels"
    return None
