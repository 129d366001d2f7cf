"""Survey of many media with the same questions: rows as they finish, a folder that can be resumed, tables and a report."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from glob import has_magic
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import UsageError, install_command
from pixel_reasoner.files import write_json
from pixel_reasoner.media.store import MediaStore
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.rollout.state import collect_settings
from pixel_reasoner.runs.media_folders import note_media_folders
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter
from pixel_reasoner.workflows.survey.engine import answer_tasks, check_samples
from pixel_reasoner.workflows.survey.media_units import (
    MediaUnit,
    UnitOptions,
    check_sources,
    count_units,
    read_units,
)
from pixel_reasoner.workflows.survey.planning import Planner
from pixel_reasoner.workflows.survey.questions import SurveyQuestion
from pixel_reasoner.workflows.survey.report import write_survey_report
from pixel_reasoner.workflows.survey.rows import RowWriter, check_row_settings
from pixel_reasoner.workflows.survey.table_row import Status, SurveyRow
from pixel_reasoner.workflows.survey.watch import OnMessage, watched_units

MEDIA, COUNTS, REPORT = "media", "counts.json", "report.html"
DEFAULT_REPORT_ROWS = 200
_MAX_NOTED_FOLDERS = 1_000


@dataclass(frozen=True, kw_only=True)
class SurveySpec:
    """A survey: media, questions, and how they are asked.

    Raises:
        UsageError: values that do not fit.
    """

    questions: tuple[SurveyQuestion, ...]
    media: tuple[str, ...] = ()
    """pictures, clips, documents, folders, globs, zip files, tables"""
    watch: Path | None = None
    """folder of a running camera, instead of `media`"""
    out: Path | None = None
    """folder of the run; None: rows are only returned"""
    config: RolloutConfig = field(default_factory=RolloutConfig)
    samples: int = 1
    """answers per question, each with its own sampling seed"""
    batch_size: int = 16
    shard: tuple[int, int] = (0, 1)
    """index (from 0) and number of shards; each has all questions of its media"""
    every_s: Fraction | None = None
    """clips are divided into windows of this length"""
    shots: bool = False
    """clips are divided into shots"""
    column: str | None = None
    """column of tables with the path"""
    max_pages: int = 1_000
    """pages of one document"""
    allow_media: tuple[Path, ...] = ()
    """folders, besides that of a table, from which its rows may name media"""
    parquet: bool = True
    """whether rows.parquet is written, if pyarrow is installed"""
    report_rows: int = DEFAULT_REPORT_ROWS
    """rows with traces in report.html, unsure ones first; 0: no report"""

    def __post_init__(self) -> None:
        check_samples(self.samples, self.config)
        if not self.questions:
            raise UsageError(
                expected="at least one question",
                got="none",
                fix="`pixel-reasoner init survey` writes some",
            )
        if self.watch is not None and self.media:
            raise UsageError(
                expected="media, or --watch DIR", got="both", fix="leave out one of them"
            )
        if self.watch is None:
            check_sources(self.media)

    @property
    def unit_options(self) -> UnitOptions:
        """How media are divided. The store of files of zip files is missing."""
        return UnitOptions(
            every_s=self.every_s,
            shots=self.shots,
            column=self.column,
            max_pages=self.max_pages,
            allow_media=self.allow_media,
            skip=() if self.out is None else (self.out,),
            limits=self.config.media,
        )

    def settings(self, model: GenerationModel) -> dict[str, Any]:
        """Return everything that determines the rows, as JSON values."""
        return {
            "survey": [one.to_dict() for one in self.questions],
            "samples": self.samples,
            "shard": list(self.shard),
            "every_s": None if self.every_s is None else str(self.every_s),
            "shots": self.shots,
            "max_pages": self.max_pages,
            **collect_settings(model, self.config).to_dict(),
        }


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


def survey_rows(
    spec: SurveySpec, model: GenerationModel, on_message: OnMessage = lambda text: None
) -> Iterator[SurveyRow]:
    """Yield the rows of a survey as they finish. With `spec.out` they are written too, and those of an earlier run come again.

    The tables and the report are written after the last row.

    Args:
        spec: media and questions.
        model: a loaded model.
        on_message: called when a watched folder disappears and when it is back.

    Raises:
        UsageError: `out` contains a run with other settings.
        OutputError: `out` cannot be written.
        EndpointError: all servers fail.
    """
    with _open_writer(spec, model) as writer:
        yield from _rows(spec, model, writer, on_message)
        if writer is not None:
            _complete(spec, writer, on_message)


def run_survey(
    spec: SurveySpec,
    model: GenerationModel,
    progress: ProgressReporter | None = None,
    on_message: OnMessage = lambda text: None,
) -> SurveySummary:
    """Run or resume a survey with a folder, and return what it wrote. Ctrl-C ends the watching of a folder.

    For arguments and errors see `survey_rows`.
    """
    num_media = None if spec.watch is not None else count_units(spec.media, spec.unit_options)
    total = None if num_media is None else num_media * len(spec.questions) // spec.shard[1]
    update = (progress or NoProgress()).start("asking", total)
    counts: Counter[str] = Counter()
    is_stopped = False
    with _open_writer(spec, model) as writer:
        assert writer is not None, "a survey of the command line has a folder"
        try:
            for row in _rows(spec, model, writer, on_message):
                counts[row.status] += 1
                update(counts.total(), _note(counts))
        except KeyboardInterrupt:
            if spec.watch is None:
                raise
            is_stopped = True
        return _complete(spec, writer, on_message)._replace(is_stopped=is_stopped)


def _note(counts: Mapping[str, int]) -> str:
    shown = (Status.UNSURE, Status.ERROR, Status.SKIPPED)
    return ", ".join(f"{counts[one]} {one}" for one in shown if counts.get(one))


@contextmanager
def _open_writer(spec: SurveySpec, model: GenerationModel) -> Iterator[RowWriter | None]:
    if spec.out is None:
        yield None
        return
    settings = spec.settings(model)
    check_row_settings(spec.out, settings)
    with RowWriter(spec.out, settings) as writer:
        writer.discard_failed()
        yield writer


def _rows(
    spec: SurveySpec, model: GenerationModel, writer: RowWriter | None, on_message: OnMessage
) -> Iterator[SurveyRow]:
    planner = Planner(spec.questions, spec.shard, writer)
    with ExitStack() as stack:
        units = _units(spec, stack, on_message)
        if writer is not None:
            units = _with_noted_folders(units, spec, writer.folder)
        results = answer_tasks(
            planner.tasks(units),
            model,
            spec.config,
            samples=spec.samples,
            batch_size=spec.batch_size,
            follow_ups=planner.follow_ups,
            canonical=planner.canonical,
        )
        for result in results:
            row = planner.row(result)
            if writer is not None and not planner.is_known(result):
                writer.append(row.to_dict(), result.traces, planner.position(result))
            yield row


def _units(spec: SurveySpec, stack: ExitStack, on_message: OnMessage) -> Iterator[MediaUnit | None]:
    options = spec.unit_options
    may_have_zip = any(Path(one).suffix.lower() == ".zip" or has_magic(one) for one in spec.media)
    if may_have_zip:
        root = (
            spec.out / MEDIA
            if spec.out is not None
            else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pixel-reasoner-")))
        )
        options = UnitOptions(**{**vars(options), "store": MediaStore(root)})
    if spec.watch is not None:
        return watched_units(spec.watch, options, on_message)
    return read_units(spec.media, options)


def _with_noted_folders(
    units: Iterable[MediaUnit | None], spec: SurveySpec, out: Path
) -> Iterator[MediaUnit | None]:
    """Yield units, and note their folders, so that `pixel-reasoner report` may show their media."""
    sources = (spec.watch,) if spec.watch is not None else map(Path, spec.media)
    noted = {path.absolute() for path in sources if path.is_dir()}
    note_media_folders(out, noted)
    for unit in units:
        for item in () if unit is None else unit.items:
            folder = Path(item.path).parent
            # Each note rewrites all: beyond the limit, `report` needs --allow-media.
            if noted.isdisjoint((folder, *folder.parents)) and len(noted) < _MAX_NOTED_FOLDERS:
                noted.add(folder)
                note_media_folders(out, [folder])
        yield unit


def _complete(spec: SurveySpec, writer: RowWriter, on_message: OnMessage) -> SurveySummary:
    has_parquet = spec.parquet and find_spec("pyarrow") is not None
    if spec.parquet and not has_parquet:
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
    if spec.report_rows and summary.num_rows:
        written = write_survey_report(
            writer.folder, writer.folder / REPORT, spec.questions, spec.report_rows, writer.rows
        )
        paths = [*paths, written]
    return summary._replace(paths=tuple(paths))


_MAX_ANSWERS = 50
"""different answers of a question that are counted; further ones are counted together"""
_MAX_ERRORS = 20
_OTHERS = "(others)"


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
