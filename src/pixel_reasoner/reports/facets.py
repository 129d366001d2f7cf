"""Filters of a report, and why an answer is right or wrong, as far as the evidence and the calls show it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pixel_reasoner.reports.steps import spaced_name
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.evidence import evidence_hit, evidence_share
from pixel_reasoner.scoring.extraction import extract_trace_answer
from pixel_reasoner.text import visible

EFFECT = "effect-of-operations"
"""filter by the effect of operations on an answer"""
FILTERS = (
    *("outcome", EFFECT, "reason", "evidence", "calls", "operations"),
    *("need", "category", "stop", "length", "step"),
)
"""all filters, in order; those without values are left out"""
_NEED_LABELS = {True: "needs an operation", False: "overview suffices", None: "unknown"}
_LENGTHS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
"""upper limits of the groups of generated tokens"""
_MANY_OPERATIONS = 4


class Reason(NamedTuple):
    """Why an answer is right or wrong."""

    label: str
    """the kind, for a filter"""
    sentence: str


def compute_facets(trace: Trace, outcome: str) -> dict[str, tuple[str, ...]]:
    """Return the filter values of a trace.

    >>> from pixel_reasoner.schema.question import Question
    >>> question = Question(id="q1", text="How many?", media=(), category="count")
    >>> found = compute_facets(Trace(question=question, stop=StopReason.NO_ANSWER), "unparsed")
    >>> found["stop"], found["operations"], found["category"]
    (('no answer',), ('0',), ('count',))
    """
    executed = len(trace.executed)
    calls = [*["executed"] * bool(executed), *["rejected"] * bool(trace.rejected)]
    return {
        "outcome": (outcome,),
        "reason": (explain(trace, outcome).label,),
        "evidence": (_evidence(trace),),
        "calls": tuple(calls or ["none"]),
        "operations": (operations_group(executed),),
        "need": (_NEED_LABELS[trace.question.needs_look],),
        "category": (facet_value(trace.question.category or "none"),),
        "stop": (spaced_name(trace.stop),),
        "length": (_length(trace),),
    }


def explain(trace: Trace, outcome: str) -> Reason:
    """Return why an answer is right or wrong: what the calls were, and whether they showed the annotated evidence.

    >>> from pixel_reasoner.schema.question import Question
    >>> question = Question(id="q1", text="How many?", media=(), answer=("4",), needs_look=True)
    >>> trace = Trace(question=question, stop=StopReason.ANSWERED, answer="3")
    >>> explain(trace, "wrong").sentence
    'No operation was executed, but the question needs one.'
    """
    if trace.stop is StopReason.FAILED:
        return Reason(
            "request failed", f"The request failed: {trace.error or 'no reason is recorded'}."
        )
    if outcome == "unparsed":
        return Reason("no answer", _no_answer(trace))
    hit = evidence_hit(trace)
    if outcome == "right":
        return _why_right(trace, hit)
    if outcome == "wrong":
        return _why_wrong(trace, hit)
    return Reason("not graded", "The expected answer is not known.")


def facet_value(text: str) -> str:
    r"""Return a filter value: one line of visible text.

    >>> facet_value("a\nb")
    'a␊b'
    """
    return visible(text).replace("\n", "␊")


def sort_values(trace: Trace) -> dict[str, float]:
    """Return the values that traces can be sorted by; those that are not known are left out."""
    tokens = [turn.num_new_tokens for turn in trace.turns]
    evidence = trace.question.evidence
    values: dict[str, float | None] = {
        "operations": len(trace.executed),
        "rejected calls": len(trace.rejected),
        "turns": len(trace.turns),
        "seconds": round(trace.seconds, 3),
        "new tokens": sum(one for one in tokens if one) if any(tokens) else None,
        "evidence size": sum(box.area for box in evidence.boxes)
        if evidence and evidence.boxes
        else None,
        "evidence shown": evidence_share(trace),
    }
    return {name: round(value, 5) for name, value in values.items() if value is not None}


def _why_right(trace: Trace, hit: bool | None) -> Reason:
    if hit:
        return Reason("right, evidence shown", "An operation showed the evidence.")
    if hit is False and trace.question.needs_look is not False:
        return Reason(
            "right without the evidence",
            "No operation showed the annotated evidence: the answer may be a guess.",
        )
    return Reason("right", "")


def _why_wrong(trace: Trace, hit: bool | None) -> Reason:
    answered, expected = extract_trace_answer(trace), " or ".join(trace.question.answer)
    misread = f"The answer is {answered}, expected is {expected}."
    if not trace.executed:
        if trace.rejected:
            return Reason("calls rejected", f"Every call was rejected: {trace.rejected[-1].text}.")
        if trace.question.needs_look:
            return Reason("no operation", "No operation was executed, but the question needs one.")
        return Reason("no operation", f"No operation was executed. {misread}")
    if hit is False:
        return Reason("evidence not shown", _missed(trace))
    if hit:
        return Reason(
            "evidence shown, answer wrong", f"An operation showed the evidence. {misread}"
        )
    return Reason("wrong", misread)


def _missed(trace: Trace) -> str:
    share = evidence_share(trace)
    if share is None:
        return "The selected frames do not contain all evidence frames."
    return f"The crops contain {share:.0%} of the annotated evidence: the model looked elsewhere."


def _no_answer(trace: Trace) -> str:
    ends = {
        StopReason.MAX_TURNS: "The maximum number of turns was reached.",
        StopReason.MAX_PICTURES: "The maximum number of pictures was reached.",
        StopReason.MAX_NEW_TOKENS: "A turn was cut off at the maximum number of tokens.",
        StopReason.MAX_CONTEXT: "The context was full.",
    }
    return ends.get(trace.stop, "The last turn contains no answer that could be extracted.")


def _evidence(trace: Trace) -> str:
    return {True: "shown", False: "not shown", None: "not annotated"}[evidence_hit(trace)]


def _length(trace: Trace) -> str:
    counts = [turn.num_new_tokens for turn in trace.turns]
    return length_group(sum(count for count in counts if count)) if any(counts) else "unknown"


def length_group(num_tokens: int) -> str:
    """Return the group of a number of generated tokens, as a filter value.

    >>> length_group(40), length_group(5000)
    ('33 to 64 tokens', 'over 4096 tokens')
    """
    lower = 0
    for limit in _LENGTHS:
        if num_tokens <= limit:
            return f"{lower + 1} to {limit} tokens"
        lower = limit
    return f"over {_LENGTHS[-1]} tokens"


def length_groups() -> Iterator[str]:
    """Yield all groups of `length_group`, shortest first."""
    yield from map(length_group, (*_LENGTHS, _LENGTHS[-1] + 1))


def operations_group(num_executed: int) -> str:
    """Return the group of a number of executed operations, as a filter value.

    >>> operations_group(2), operations_group(7)
    ('2', '4 or more')
    """
    return f"{_MANY_OPERATIONS} or more" if num_executed >= _MANY_OPERATIONS else str(num_executed)


def operations_groups() -> Iterator[str]:
    """Yield all groups of `operations_group`, in order."""
    yield from map(operations_group, range(_MANY_OPERATIONS + 1))
