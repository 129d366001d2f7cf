"""Report of a survey: answers to each question, and the rows with their traces, unsure ones first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pixel_reasoner import __version__
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.decoder import IN_PROCESS, MediaDecoder
from pixel_reasoner.reports.entry import Asked
from pixel_reasoner.reports.facets import facet_value
from pixel_reasoner.reports.names import run_name
from pixel_reasoner.reports.page import Row, write_rows
from pixel_reasoner.reports.pictures import PictureStore
from pixel_reasoner.reports.schema import Column, Fact, Report, Section, TableSection, TextSection
from pixel_reasoner.runs.trace_file import TraceFile
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.workflows.survey.questions import SurveyQuestion
from pixel_reasoner.workflows.survey.table_row import Status

Rows = Callable[[], Iterable[Mapping[str, Any]]]
"""returns the rows from the start"""
_MAX_ANSWERS = 30
_MAX_FAILED = 200
_ORDER = (Status.UNSURE, Status.ERROR, Status.ANSWERED)
UNGRADED, UNPARSED = "ungraded", "unparsed"
"""outcomes of a trace with and without an answer"""


def write_survey_report(
    folder: Path,
    out: Path,
    questions: Sequence[SurveyQuestion],
    max_rows: int,
    rows: Rows,
    decoder: MediaDecoder = IN_PROCESS,
) -> Path:
    """Write the report of a complete survey, and return the path of the page.

    Args:
        folder: of the run, with its traces.
        out: path of the page.
        questions: of the survey.
        max_rows: rows with a trace; unsure ones come first, then failed ones.
        rows: returns the rows in the order of the table.
        decoder: opens the media.

    Raises:
        OutputError: the page cannot be written.
    """
    counts = Counter(row["status"] for row in rows())
    chosen = _chosen(rows, max_rows)
    num_asked = sum(row["trace"] is not None for row in rows())
    warnings = (
        (
            f"The page contains {len(chosen):,} of {num_asked:,} rows with traces, unsure ones first. The tables count all.",
        )
        if len(chosen) < num_asked
        else ()
    )
    report = Report(
        title=f"Survey: {run_name(folder)}",
        facts=tuple(_facts(counts, questions)),
        sections=tuple(_sections(questions, rows)),
        warnings=warnings,
        made_by=f"pixel-reasoner {__version__}",
    )
    store = partial(_SurveyPictures, decoder)
    return write_rows(_rows(folder, chosen), out, report, folder, picture_store=store).out


class _SurveyPictures(PictureStore):
    """Pictures of media that are opened as the survey did."""

    def __init__(self, decoder: MediaDecoder, folder: Path, max_px: int) -> None:
        super().__init__(folder, max_px)
        self._decoder = decoder

    def open(self, trace: Trace) -> MediaContext:
        return MediaContext.of_trace(trace, decoder=self._decoder)


def _chosen(rows: Rows, max_rows: int) -> dict[tuple[str, int], Mapping[str, Any]]:
    """Return the rows that are shown, by the id and sample of their trace."""
    chosen: dict[tuple[str, int], Mapping[str, Any]] = {}
    for status in _ORDER:
        for row in rows():
            if len(chosen) >= max_rows:
                return chosen
            if row["status"] == status and row["trace"] is not None:
                chosen[row["trace"], row["sample"] or 0] = row
    return chosen


def _rows(folder: Path, chosen: Mapping[tuple[str, int], Mapping[str, Any]]) -> Iterator[Row]:
    # One pass over the file: the traces of the chosen rows are few.
    file = TraceFile(folder, skips_unreadable=True)
    offsets = {
        key: stored.offset
        for stored in file.scan()
        if (key := (stored.trace.question.id, stored.trace.sample)) in chosen
    }
    for key, row in chosen.items():
        if key in offsets:
            trace = file.read(offsets[key])
            facts = {"agreement": f"{row['agreement']:.2f}"} if row["agreement"] is not None else {}
            facts |= {"status": row["status"]} | (
                {"reason": row["reason"]} if row["reason"] else {}
            )
            outcome = UNPARSED if trace.answer is None and row["error"] is None else UNGRADED
            answer = row["answer"] if row["answer"] is not None else "none"
            facets = {
                "status": (row["status"],),
                "answer": (facet_value(f"{row['question']}: {answer}"[:80]),),
            }
            yield Row([Asked(trace, outcome, "", facts)], facets)


def _facts(counts: Mapping[str, int], questions: Sequence[SurveyQuestion]) -> Iterator[Fact]:
    explanations = {
        Status.ANSWERED: "with enough agreement",
        Status.UNSURE: "less agreement than the question asks for, or no answer of its type",
        Status.SKIPPED: "the condition of the question is not met",
        Status.ERROR: "the medium or the request failed",
    }
    yield Fact(name="rows", value=f"{sum(counts.values()):,}")
    yield Fact(name="questions", value=f"{len(questions)}")
    for status, explanation in explanations.items():
        yield Fact(name=str(status), value=f"{counts.get(status, 0):,}", explanation=explanation)


def _sections(questions: Sequence[SurveyQuestion], rows: Rows) -> Iterator[Section]:
    answers: dict[str, Counter[str]] = {one.id: Counter() for one in questions}
    failed: list[tuple[str, str]] = []
    num_failed = 0
    for row in rows():
        if row["error"] is not None:
            num_failed += 1
            if len(failed) < _MAX_FAILED:
                failed.append((row["id"], row["error"]))
        elif row["status"] in (Status.ANSWERED, Status.UNSURE):
            _count(answers[row["question"]], row)
    for question in questions:
        yield _answers_table(question, answers[question.id])
    if failed:
        more = f" The first {len(failed)} of {num_failed:,} are listed." * (
            num_failed > len(failed)
        )
        yield TableSection(
            title=f"Rows with an error: {num_failed:,}",
            columns=(Column(title="row"), Column(title="reason")),
            rows=tuple(failed),
            explanation=f"The next run with the same command tries them again.{more}",
            is_folded=True,
        )


def _count(counter: Counter[str], row: Mapping[str, Any]) -> None:
    answer = "unsure" if row["status"] == Status.UNSURE else row["answer"]
    counter[answer if answer in counter or len(counter) < _MAX_ANSWERS else "other answers"] += 1


def _answers_table(question: SurveyQuestion, answers: Counter[str]) -> Section:
    total = answers.total()
    condition = f" Condition: {question.when}." if question.when else ""
    if not total:
        return TextSection(title=question.text, text=f"No row was asked.{condition}")
    return TableSection(
        title=question.text,
        columns=(
            Column(title=f"answer ({question.type.replace('_', ' ')})"),
            Column(title="rows", format="count"),
            Column(title="share", format="share"),
        ),
        rows=tuple(
            (answer, float(count), count / total) for answer, count in answers.most_common()
        ),
        explanation=f"{total:,} {'row was' if total == 1 else 'rows were'} asked.{condition}",
    )
