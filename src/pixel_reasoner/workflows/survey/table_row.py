"""One row of a survey: a medium, a question, and the typed answer with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.workflows.survey.engine import Task, TaskResult
from pixel_reasoner.workflows.survey.evidence import evidence_boxes
from pixel_reasoner.workflows.survey.media_units import MediaUnit
from pixel_reasoner.workflows.survey.questions import SurveyQuestion, Value

DATA_PREFIX = "data."
"""prefix of the columns that come from a table"""
MAX_REASON_CHARS = 300
_TIME_DIGITS = 3


class Status(StrEnum):
    """What became of a row."""

    ANSWERED = "answered"
    UNSURE = "unsure"
    """less agreement than the question asks for, or no answer of its type"""
    SKIPPED = "skipped"
    """the condition of the question is not met"""
    ERROR = "error"
    """the medium or the request failed; the next run tries it again"""


@dataclass(frozen=True, kw_only=True)
class SurveyRow:
    """One row of a survey."""

    id: str
    """`MEDIUM:QUESTION`; of a medium that cannot be opened, its path"""
    path: str
    """of the medium, as given"""
    page: int | None = None
    start_s: float | None = None
    """start of the part of a clip, in seconds"""
    end_s: float | None = None
    question: str | None = None
    """id of the question"""
    status: Status
    answer: str | None = None
    """typed answer as text: `yes`, a choice, `3`"""
    number: int | float | None = None
    """the answer to a question of type number or count"""
    agreement: float | None = None
    """share of the samples with this answer"""
    reason: str | None = None
    """why it is unsure or skipped"""
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    """evidence: left, top, right, bottom in pixels of the upright picture or frame"""
    boxes_on: tuple[int, ...] = ()
    """number of the medium that each box is on, from 1"""
    times_s: tuple[float, ...] = ()
    """of each box, in seconds from the start of the clip; empty for pictures"""
    trace_id: str | None = None
    """id of the question in traces.jsonl; None if it was not asked"""
    sample: int | None = None
    """number of the trace that the evidence is from, from 0"""
    error: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    """other columns of the row of the table that names the medium"""
    trace: Trace | None = field(default=None, compare=False, repr=False)
    """the trace itself; None for a row of an earlier run"""

    @property
    def value(self) -> Value | None:
        """The typed answer: a number for the types number and count, else a text."""
        return self.answer if self.number is None else self.number

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values, with the columns of the table after its own."""
        return {
            "id": self.id,
            "path": self.path,
            "page": self.page,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "question": self.question,
            "status": str(self.status),
            "answer": self.answer,
            "number": self.number,
            "agreement": self.agreement,
            "reason": self.reason,
            "boxes": [list(box) for box in self.boxes],
            "boxes_on": list(self.boxes_on),
            "times_s": list(self.times_s),
            "trace": self.trace_id,
            "sample": self.sample,
            "error": self.error,
            **{f"{DATA_PREFIX}{name}": value for name, value in self.data.items()},
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> SurveyRow:
        """Return the row of JSON values that `to_dict` returned.

        >>> row = SurveyRow(id="a.png:n", path="a.png", question="n", status=Status.ANSWERED, answer="3", number=3)
        >>> SurveyRow.from_dict(row.to_dict()) == row
        True
        """
        own = {name: value for name, value in row.items() if not name.startswith(DATA_PREFIX)}
        own["trace_id"] = own.pop("trace")
        own["status"] = Status(own["status"])
        own["boxes"] = tuple(tuple(box) for box in own["boxes"])
        own["boxes_on"], own["times_s"] = tuple(own["boxes_on"]), tuple(own["times_s"])
        data = {
            name.removeprefix(DATA_PREFIX): value
            for name, value in row.items()
            if name.startswith(DATA_PREFIX)
        }
        return cls(**own, data=data)


@dataclass(frozen=True)
class About:
    """What a task of a survey is about."""

    unit: MediaUnit
    position: int
    """place of the row in the complete table"""
    number: int
    """index of the question; -1 for a medium that cannot be opened"""
    known: SurveyRow | None = None
    """row of an earlier run"""
    skipped: str = ""
    """why the question is not asked"""

    @classmethod
    def of(cls, task: Task) -> About:
        """Return what a task is about."""
        about: About = task.about["survey"]
        return about

    @property
    def fields(self) -> Mapping[str, Any]:
        """The values of this dataclass, for `Task.about`."""
        return {"survey": self}


def survey_row(result: TaskResult, question: SurveyQuestion | None) -> SurveyRow:
    """Return the row of a result. `question` is None for a medium that cannot be opened."""
    about = About.of(result.task)
    if about.known is not None:
        return about.known
    fields = _unit_fields(about.unit)
    if question is None or result.error is not None:
        name = None if question is None else question.id
        return SurveyRow(
            id=result.task.id, question=name, status=Status.ERROR, error=result.error, **fields,
            trace_id=result.task.id if result.traces else None, trace=result.trace,
        )  # fmt: skip
    if about.skipped:
        return SurveyRow(
            id=result.task.id,
            question=question.id,
            status=Status.SKIPPED,
            reason=about.skipped,
            **fields,
        )
    return _answered_row(result, question, fields)


def _answered_row(
    result: TaskResult, question: SurveyQuestion, fields: dict[str, Any]
) -> SurveyRow:
    trace = result.trace
    assert trace is not None, "a question without an error was asked"
    value = None if result.answer is None else question.value(result.answer)
    found = evidence_boxes(trace)
    reason = _unsure_reason(result, trace, question, value)
    return SurveyRow(
        id=result.task.id,
        question=question.id,
        status=Status.ANSWERED if reason is None else Status.UNSURE,
        answer=None if value is None else value if isinstance(value, str) else f"{value:.12g}",
        number=value if isinstance(value, int | float) else None,
        agreement=round(result.agreement, 4),
        reason=reason,
        boxes=tuple(one.box_px for one in found),
        boxes_on=tuple(one.medium for one in found),
        times_s=tuple(one.time_s for one in found if one.time_s is not None),
        trace_id=result.task.id,
        sample=trace.sample,
        trace=trace,
        **fields,
    )


def _unsure_reason(
    result: TaskResult, trace: Trace, question: SurveyQuestion, value: Value | None
) -> str | None:
    if value is None:
        if trace.answer is None:
            return f"no answer ({str(trace.stop).replace('_', ' ')})"
        answer = " ".join(trace.answer.split())[:MAX_REASON_CHARS]
        return f"not an answer of type {question.type}: {answer}"
    if result.agreement < question.unsure:
        return f"agreement {result.agreement:.2f} is below {question.unsure:g}"
    return None


def _unit_fields(unit: MediaUnit) -> dict[str, Any]:
    start, end = unit.window or (None, None)
    return {
        "path": unit.path or unit.id,
        "page": unit.page,
        "start_s": None if start is None else round(float(start), _TIME_DIGITS),
        "end_s": None if end is None else round(float(end), _TIME_DIGITS),
        "data": dict(unit.data),
    }
