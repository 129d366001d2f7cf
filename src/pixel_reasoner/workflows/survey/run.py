"""Survey of many media with the same questions: rows as they finish, a folder that can be resumed, tables and a report."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.decoder import MediaDecoder
from pixel_reasoner.media.documents import Passwords
from pixel_reasoner.media.store import MediaStore
from pixel_reasoner.media.worker_pool import WorkerLimits, WorkerPoolDecoder
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.rollout.scheduler import get_scheduler
from pixel_reasoner.rollout.state import collect_settings
from pixel_reasoner.runs.media_folders import note_media_folders
from pixel_reasoner.schema.media_url import check_local, is_url
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter
from pixel_reasoner.workflows.survey.complete import (
    DEFAULT_REPORT_ROWS,
    SurveySummary,
    complete_survey,
)
from pixel_reasoner.workflows.survey.dividing import IN_THIS_PROCESS, FileDivider
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
from pixel_reasoner.workflows.survey.rows import RowWriter, check_row_settings
from pixel_reasoner.workflows.survey.table_row import Status, SurveyRow
from pixel_reasoner.workflows.survey.watch import OnMessage, watched_units

MEDIA = "media"
WORKER_LIMITS = WorkerLimits(cpu_s=600.0, timeout_s=600.0)
"""of one request to a decoding process; to find the shots of a long clip takes minutes"""
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
    pdf_passwords: Passwords = ()
    """tried in order for a protected PDF; never written or shown"""
    decode_workers: int = 0
    """processes that decode media, so that a crash of a decoder is one row with an error; 0: this process"""
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
        if self.decode_workers < 0:
            raise UsageError(
                expected="at least 0 decoding processes",
                got=str(self.decode_workers),
                fix="--decode-workers 2 starts two; 0 decodes in this process",
            )
        check_local(self.out, "--out")
        check_local(self.watch, "--watch")
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
    with _open_writer(spec, model) as writer, _decoders(spec, model) as divider:
        yield from _rows(spec, model, (writer, divider), on_message)
        if writer is not None:
            _complete(spec, writer, divider.decoder, on_message)


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
    with _open_writer(spec, model) as writer, _decoders(spec, model) as divider:
        assert writer is not None, "a survey of the command line has a folder"
        try:
            for row in _rows(spec, model, (writer, divider), on_message):
                counts[row.status] += 1
                update(counts.total(), _note(counts))
        except KeyboardInterrupt:
            if spec.watch is None:
                raise
            is_stopped = True
        summary = _complete(spec, writer, divider.decoder, on_message)
        return summary._replace(is_stopped=is_stopped)


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
    spec: SurveySpec,
    model: GenerationModel,
    opened: tuple[RowWriter | None, FileDivider],
    on_message: OnMessage,
) -> Iterator[SurveyRow]:
    writer, divider = opened
    planner = Planner(spec.questions, spec.shard, writer)
    with ExitStack() as stack:
        units = _units(spec, divider, stack, on_message)
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


@contextmanager
def _decoders(spec: SurveySpec, model: GenerationModel) -> Iterator[FileDivider]:
    """Decode the media of the questions as the survey says, until the end of the context."""
    if not spec.decode_workers and not spec.pdf_passwords:
        yield IN_THIS_PROCESS
        return
    with ExitStack() as stack:
        passwords = spec.pdf_passwords
        pool = None
        if spec.decode_workers:
            pool = WorkerPoolDecoder(spec.decode_workers, WORKER_LIMITS, passwords)
            stack.enter_context(pool)
        scheduler = get_scheduler(model)
        stack.callback(scheduler.decode_with, scheduler.decoder)
        divider = FileDivider(pool, passwords)
        scheduler.decode_with(divider.decoder)
        yield divider


def survey_decoder(spec: SurveySpec) -> Callable[[], MediaDecoder] | None:
    """Return a picklable function that opens the decoder of a survey in another process; None for the default one."""
    if not spec.decode_workers and not spec.pdf_passwords:
        return None
    return partial(_open_decoder, spec.decode_workers, spec.pdf_passwords)


def _open_decoder(num_workers: int, passwords: Passwords) -> MediaDecoder:
    if not num_workers:
        return FileDivider(None, passwords).decoder
    return WorkerPoolDecoder(num_workers, WORKER_LIMITS, passwords)


def _units(
    spec: SurveySpec, divider: FileDivider, stack: ExitStack, on_message: OnMessage
) -> Iterator[MediaUnit | None]:
    options = replace(spec.unit_options, divider=divider)
    may_have_zip = any(Path(one).suffix.lower() == ".zip" or has_magic(one) for one in spec.media)
    if may_have_zip:
        root = (
            spec.out / MEDIA
            if spec.out is not None
            else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pixel-reasoner-")))
        )
        options = replace(options, store=MediaStore(root))
    if spec.watch is not None:
        return watched_units(spec.watch, options, on_message)
    return read_units(spec.media, options)


def _with_noted_folders(
    units: Iterable[MediaUnit | None], spec: SurveySpec, out: Path
) -> Iterator[MediaUnit | None]:
    """Yield units, and note their folders, so that `pixel-reasoner report` may show their media."""
    sources = (spec.watch,) if spec.watch is not None else map(Path, spec.media)
    noted = {path.absolute() for path in sources if path.is_dir()}
    note_media_folders(out, noted, filter(is_url, spec.media))
    for unit in units:
        for item in () if unit is None else unit.items:
            if is_url(item.path):
                continue
            folder = Path(item.path).parent
            # Each note rewrites all: beyond the limit, `report` needs --allow-media.
            if noted.isdisjoint((folder, *folder.parents)) and len(noted) < _MAX_NOTED_FOLDERS:
                noted.add(folder)
                note_media_folders(out, [folder])
        yield unit


def _complete(
    spec: SurveySpec, writer: RowWriter, decoder: MediaDecoder, on_message: OnMessage
) -> SurveySummary:
    return complete_survey(
        writer,
        spec.questions,
        parquet=spec.parquet,
        report_rows=spec.report_rows,
        decoder=decoder,
        on_message=on_message,
    )
