"""Tasks of a survey: every question about every medium, conditions, shards, and rows of an earlier run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pixel_reasoner.schema.question import Question
from pixel_reasoner.workflows.survey.engine import Task, TaskResult
from pixel_reasoner.workflows.survey.media_units import MediaUnit
from pixel_reasoner.workflows.survey.questions import SurveyQuestion
from pixel_reasoner.workflows.survey.rows import RowWriter
from pixel_reasoner.workflows.survey.table_row import About, Status, SurveyRow, survey_row


class Planner:
    """Maker of the tasks and rows of one survey.

    Args:
        questions: of every medium.
        shard: index from 0 and number of shards.
        writer: contains the rows of an earlier run; None: there are none.
    """

    def __init__(
        self,
        questions: Sequence[SurveyQuestion],
        shard: tuple[int, int] = (0, 1),
        writer: RowWriter | None = None,
    ) -> None:
        self._questions = tuple(questions)
        self._by_id = {one.id: one for one in questions}
        self._shard = shard
        # An empty folder needs no lookups.
        self._earlier = writer if writer is not None and writer.num_rows else None
        self._dependents: dict[str, list[int]] = {}
        for number, one in enumerate(questions):
            if one.when is not None:
                self._dependents.setdefault(one.when.question, []).append(number)

    def tasks(self, units: Iterable[MediaUnit | None]) -> Iterator[Task | TaskResult | None]:
        """Yield the tasks without a condition, and the results that are known already. None is passed on."""
        index, count = self._shard
        number = -1
        for unit in units:
            if unit is None:
                yield None
                continue
            number += 1
            if number % count != index:
                continue
            first = number * (len(self._questions) + 1)
            if unit.error is not None:
                yield _failed(unit, first)
                continue
            for question, one in enumerate(self._questions):
                if one.when is None:
                    yield self._task(unit, first, question)

    def follow_ups(self, result: TaskResult) -> Iterator[Task | TaskResult]:
        """Yield the tasks whose condition is on the answer of a result, and the results of those that are skipped."""
        about = About.of(result.task)
        if about.number < 0:
            return
        asked = self._questions[about.number]
        first = about.position - about.number - 1
        for number in self._dependents.get(asked.id, ()):
            condition = self._questions[number].when
            assert condition is not None, "only questions with a condition depend on others"
            row = self.row(result)
            if row.value is None or row.status is Status.ERROR:
                yield self._skipped(about.unit, first, number, f"{asked.id} has no answer")
            elif not condition.holds(row.value):
                yield self._skipped(about.unit, first, number, f"{asked.id} is {row.answer}")
            else:
                yield self._task(about.unit, first, number)

    def canonical(self, answer: str, question: Question) -> str | None:
        """Return the form in which equal answers to a question are equal texts."""
        return self._by_id[question.category].canonical(answer, question)

    def row(self, result: TaskResult) -> SurveyRow:
        """Return the row of a result."""
        number = About.of(result.task).number
        return survey_row(result, None if number < 0 else self._questions[number])

    def position(self, result: TaskResult) -> int:
        """Return the place of a row in the complete table."""
        return About.of(result.task).position

    def is_known(self, result: TaskResult) -> bool:
        """Return whether a row is of an earlier run."""
        return About.of(result.task).known is not None

    def _task(self, unit: MediaUnit, first: int, number: int) -> Task | TaskResult:
        question = self._questions[number]
        id_ = f"{unit.id}:{question.id}"
        about = About(unit, first + number + 1, number)
        earlier = self._row_of(id_)
        # A skipped row is decided again: its condition may have had no answer then.
        if earlier is not None and earlier.status not in (Status.ERROR, Status.SKIPPED):
            known = About(unit, about.position, number, known=earlier)
            return _result(id_, question.for_media(id_, unit.items), known)
        return Task(id_, question.for_media(id_, unit.items), about.fields)

    def _skipped(self, unit: MediaUnit, first: int, number: int, why: str) -> TaskResult:
        question = self._questions[number]
        id_ = f"{unit.id}:{question.id}"
        about = About(unit, first + number + 1, number, skipped=why)
        earlier = self._row_of(id_)
        if earlier is not None and earlier.status is Status.SKIPPED and earlier.reason == why:
            about = About(unit, about.position, number, known=earlier)
        return _result(id_, question.for_media(id_, unit.items), about)

    def _row_of(self, id_: str) -> SurveyRow | None:
        row = None if self._earlier is None else self._earlier.get(id_)
        return None if row is None else SurveyRow.from_dict(row)


def _failed(unit: MediaUnit, position: int) -> TaskResult:
    question = Question(id=unit.id, text="", media=())
    return _result(unit.id, question, About(unit, position, -1), unit.error)


def _result(id_: str, question: Question, about: About, error: str | None = None) -> TaskResult:
    return TaskResult(Task(id_, question, about.fields), (), None, 0.0, error)
