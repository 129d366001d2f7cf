"""First pass over the traces of a run: a few numbers of each, and its place in the file.

Reports are written in two passes, so that memory does not grow with the length of the traces. The first computes the
order, filters, tables and charts from `ScannedTrace`s. The second reads one trace at a time by its offset.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.evals.stats import TraceNumbers, get_category
from pixel_reasoner.reports.facets import facet_value
from pixel_reasoner.reports.steps import outcome_in_words
from pixel_reasoner.runs.trace_file import TraceFile
from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.extraction import extract_trace_answer
from pixel_reasoner.scoring.grading import Scorer
from pixel_reasoner.scoring.numbers import parse_number
from pixel_reasoner.scoring.options import options_stated

NO_OPTION = "no answer"
SEVERAL_OPTIONS = "several"
ANSWERED_OPTION, EXPECTED_OPTION = "answered-option", "expected-option"
EVIDENCE_SIZE = "evidence-size"
MAX_COUNT = 1000
"""expected numbers up to this limit are counts"""
_SIZE_LIMITS = (*(10 ** (power / 2) for power in range(-10, 0)), 1.0)
"""upper limits of the groups by evidence size, as shares of the picture: two per power of ten"""

TraceKey = tuple[str, int]
"""id of the question, and number of the sample"""


class Choice(NamedTuple):
    """Expected and answered option of a question with options."""

    expected: str
    answered: str


class Count(NamedTuple):
    """Expected and answered number."""

    expected: float
    answered: float


class ScannedTrace(NamedTuple):
    """What a report of many traces keeps of each."""

    offset: int
    key: TraceKey
    numbers: TraceNumbers
    outcome: str
    is_failed: bool
    category: str
    """as shown by the filter"""
    group: str
    """category of the summary: whether the question needs an operation, if known"""
    prompt_tokens: int
    """sum over the turns"""
    new_tokens: int
    """sum over the turns with a known number"""
    evidence_size: float | None
    """area of the evidence as a share of the picture"""
    choice: Choice | None
    numbered: Count | None

    @property
    def is_right(self) -> bool:
        """Whether the answer is right."""
        return self.outcome == "right"

    @property
    def is_graded(self) -> bool:
        """Whether the expected answer is known and the request did not fail."""
        return self.outcome != "ungraded"

    @property
    def facets(self) -> dict[str, tuple[str, ...]]:
        """Filter values for the charts of a run."""
        found: dict[str, tuple[str, ...]] = {}
        if self.evidence_size is not None:
            found[EVIDENCE_SIZE] = (size_group(self.evidence_size),)
        if self.choice is not None:
            found[EXPECTED_OPTION] = (self.choice.expected,)
            found[ANSWERED_OPTION] = (self.choice.answered,)
        return found


class ScannedRun(NamedTuple):
    """The file of a run, and the numbers of its traces in the order of the file."""

    file: TraceFile
    traces: Sequence[ScannedTrace]

    @property
    def by_key(self) -> dict[TraceKey, ScannedTrace]:
        """The traces by question and sample; the last one where there are several."""
        return {one.key: one for one in self.traces}


def scan_run(path: Path, scorer: Scorer, allow_media: Sequence[Path] = ()) -> ScannedRun:
    """Read the traces of a run once.

    Lines that are no traces of this version are left out (`TraceFile.unreadable`).

    Raises:
        InputError: no such file.
    """
    file = TraceFile(path, allow_media, skips_unreadable=True)
    return ScannedRun(file, [_scan(one.offset, one.trace, scorer) for one in file.scan()])


def outcome_in_run(trace: Trace, numbers: TraceNumbers) -> str:
    """Return the outcome of a trace. A failed request counts in no metric, so it is `ungraded`."""
    return "ungraded" if trace.stop is StopReason.FAILED else outcome_in_words(numbers.grade)


def size_group(share: float) -> str:
    """Return the group of an evidence size, as a filter value.

    >>> size_group(0.0002), size_group(0.5)
    ('0.01 % to 0.032 %', '32 % to 100 %')
    """
    number = next(
        (n for n, limit in enumerate(_SIZE_LIMITS) if share <= limit), len(_SIZE_LIMITS) - 1
    )
    lower = _SIZE_LIMITS[number - 1] if number else 0.0
    return f"{100 * lower:.2g} % to {100 * _SIZE_LIMITS[number]:.2g} %".replace("1e+02", "100")


def size_groups() -> Iterator[str]:
    """Yield all groups of `size_group`, smallest first."""
    yield from map(size_group, _SIZE_LIMITS)


def _scan(offset: int, trace: Trace, scorer: Scorer) -> ScannedTrace:
    question, numbers = trace.question, TraceNumbers.of(trace, scorer)
    answered = extract_trace_answer(trace)
    boxes = question.evidence.boxes if question.evidence else ()
    return ScannedTrace(
        offset=offset,
        key=(question.id, trace.sample),
        numbers=numbers,
        outcome=outcome_in_run(trace, numbers),
        is_failed=trace.stop is StopReason.FAILED,
        category=facet_value(question.category or "none"),
        group=get_category(trace),
        prompt_tokens=sum(turn.num_prompt_tokens for turn in trace.turns),
        new_tokens=sum(turn.num_new_tokens or 0 for turn in trace.turns),
        evidence_size=min(1.0, sum(box.area for box in boxes)) if boxes else None,
        choice=_choice(question, answered),
        numbered=_count(question, answered),
    )


def _choice(question: Question, answered: str | None) -> Choice | None:
    if question.answer_type is not AnswerType.CHOICE or not question.answer:
        return None
    return Choice(
        _option(question.answer[0], question.options),
        _option(answered, question.options),
    )


def _option(answer: str | None, options: dict[str, str]) -> str:
    """Return the letter of the option that an answer states."""
    letters = {letter.lower(): letter for letter in options}
    stated = options_stated(answer, options) if answer else set()
    known = (
        sorted(letters[one] for one in stated if one in letters)
        if letters
        else sorted(map(str.upper, stated))
    )
    if not known:
        return NO_OPTION
    return facet_value(known[0]) if len(known) == 1 else SEVERAL_OPTIONS


def _count(question: Question, answered: str | None) -> Count | None:
    """Return the numbers of a question that asks for a small whole number."""
    if question.answer_type not in (AnswerType.NUMBER, AnswerType.INTEGER) or not question.answer:
        return None
    expected = parse_number(question.answer[0])
    given = parse_number(answered) if answered else None
    if expected is None or given is None or not math.isfinite(given.value):
        return None
    if expected.unit or not expected.value.is_integer() or not 0 <= expected.value <= MAX_COUNT:
        return None
    return Count(expected.value, given.value)
