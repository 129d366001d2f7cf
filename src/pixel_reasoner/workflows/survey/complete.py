"""End of a survey: its tables, counts and report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import install_command
from pixel_reasoner.files import write_json
from pixel_reasoner.media.decoder import IN_PROCESS, MediaDecoder
from pixel_reasoner.workflows.survey.questions import SurveyQuestion
from pixel_reasoner.workflows.survey.report import write_survey_report
from pixel_reasoner.workflows.survey.rows import RowWriter
from pixel_reasoner.workflows.survey.table_row import Status
from pixel_reasoner.workflows.survey.watch import OnMessage

COUNTS, REPORT = "counts.json", "report.html"
DEFAULT_REPORT_ROWS = 200
_MAX_ANSWERS = 50
"""different answers of a question that are counted; further ones are counted together"""
_MAX_ERRORS = 20
_OTHERS = "(others)"


class FailedRows(NamedTuple):
    """Rows with one kind of error."""

    num_rows: int
    example: str
    """id of the first row"""
    reason: str
    """its error"""


class SurveySummary(NamedTuple):
    """What a survey wrote."""

    counts: Mapping[str, int]
    """status -> number of rows"""
    answers: Mapping[str, Mapping[str, int]]
    """question -> answer -> number of rows, of the most frequent answers"""
    errors: Mapping[str, FailedRows]
    """kind of error -> its rows, of the most frequent ones"""
    paths: tuple[Path, ...]
    """written tables and report"""
    is_stopped: bool = False
    """whether Ctrl-C ended the watching of a folder"""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return sum(self.counts.values())

    @property
    def num_failed(self) -> int:
        """Number of rows with an error."""
        return self.counts.get(Status.ERROR, 0)


def complete_survey(
    writer: RowWriter,
    questions: Sequence[SurveyQuestion],
    *,
    parquet: bool = True,
    report_rows: int = DEFAULT_REPORT_ROWS,
    decoder: MediaDecoder = IN_PROCESS,
    on_message: OnMessage = lambda text: None,
) -> SurveySummary:
    """Write the tables, counts and report of the rows of a folder.

    Args:
        writer: open folder with all rows.
        questions: of the survey.
        parquet: whether rows.parquet is written, if pyarrow is installed.
        report_rows: rows with traces in report.html, unsure ones first; 0: no report.
        decoder: opens the media that the report shows.
        on_message: called with a text if rows.parquet is not written.

    Raises:
        OutputError: a file cannot be written.
    """
    has_parquet = parquet and find_spec("pyarrow") is not None
    if parquet and not has_parquet:
        on_message(
            f"rows.parquet is not written: pyarrow is not installed; {install_command('workflows')}"
        )
    paths = writer.complete(parquet=has_parquet)
    summary = _summary(writer.rows())
    counts = {
        "rows": summary.num_rows,
        **summary.counts,
        "answers": summary.answers,
        "errors": {kind: one._asdict() for kind, one in summary.errors.items()},
    }
    write_json(counts, writer.folder / COUNTS)
    if report_rows and summary.num_rows:
        out = writer.folder / REPORT
        written = write_survey_report(
            writer.folder, out, questions, report_rows, writer.rows, decoder
        )
        paths = [*paths, written]
    return summary._replace(paths=tuple(paths))


def _summary(rows: Iterable[Mapping[str, Any]]) -> SurveySummary:
    counts: Counter[str] = Counter()
    answers: dict[str, Counter[str]] = {}
    errors: dict[str, FailedRows] = {}
    for row in rows:
        counts[row["status"]] += 1
        if row["error"] is not None:
            _count_error(errors, row)
        elif row["status"] == Status.ANSWERED:
            _count(answers.setdefault(row["question"], Counter()), row["answer"], _MAX_ANSWERS)
    by_question = {name: dict(found.most_common()) for name, found in answers.items()}
    by_count = sorted(errors.items(), key=lambda one: -one[1].num_rows)
    return SurveySummary(dict(counts), by_question, dict(by_count), ())


def _count_error(errors: dict[str, FailedRows], row: Mapping[str, Any]) -> None:
    kind = _error_kind(row["error"])
    if kind not in errors and len(errors) >= _MAX_ERRORS:
        kind = _OTHERS
    first = errors.get(kind, FailedRows(0, row["id"], row["error"]))
    errors[kind] = first._replace(num_rows=first.num_rows + 1)


def _count(counter: Counter[str], key: str, max_keys: int) -> None:
    counter[key if key in counter or len(counter) < max_keys else _OTHERS] += 1


def _error_kind(error: str) -> str:
    """Return what is expected, which is the same for all media with one kind of error."""
    return error.partition("; got ")[0].removeprefix("expected ")[:120]
