"""Run of `find` in a folder: rows that can be resumed, then tables, exports, clips, contact sheets and a report.

DIR/rows.jsonl        one row per video and description: state, moments, nearest misses, what was not sampled
DIR/moments.csv       one row per moment, for people; `--spans` reads it again
DIR/exports/          files for editors and players
DIR/clips/, reframed/, thumbnails/, redacted/
DIR/contact-sheet.webp, DIR/report.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import PixelReasonerError, UsageError
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.rollout.state import collect_settings
from pixel_reasoner.runs.media_folders import note_media_folders
from pixel_reasoner.runs.store import TRACES
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.workflows.moments.clips.make import ClipOptions, Made, make_clips
from pixel_reasoner.workflows.moments.exports.write import unique_stems, write_exports
from pixel_reasoner.workflows.moments.find import SearchOptions, check_queries, find_moments
from pixel_reasoner.workflows.moments.moment import VideoMoments
from pixel_reasoner.workflows.moments.new_files import write_new
from pixel_reasoner.workflows.moments.report import write_moments_report
from pixel_reasoner.workflows.moments.saved import result_of_rows, rows_of_result
from pixel_reasoner.workflows.moments.sheets import write_contact_sheets
from pixel_reasoner.workflows.moments.table import csv_text, moment_rows, read_spans
from pixel_reasoner.workflows.moments.table_results import results_of_spans
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter, Update
from pixel_reasoner.workflows.survey.engine import check_samples
from pixel_reasoner.workflows.survey.media_units import check_sources, read_units
from pixel_reasoner.workflows.survey.rows import RowWriter, check_row_settings

CSV, SHEET, REPORT, EXPORTS = "moments.csv", "contact-sheet.webp", "report.html", "exports"


@dataclass(frozen=True, kw_only=True)
class FindSpec:
    """A search in a folder, and what is made of its moments.

    Raises:
        UsageError: values that do not fit.
    """

    out: Path
    videos: tuple[str, ...] = ()
    """files, folders and globs"""
    queries: tuple[str, ...] = ()
    """descriptions"""
    spans: Path | None = None
    """table of spans, instead of a search"""
    search: SearchOptions = field(default_factory=SearchOptions)
    config: RolloutConfig = field(default_factory=RolloutConfig)
    formats: tuple[str, ...] = ()
    """of `exports.write.FORMATS`"""
    clips: ClipOptions = field(default_factory=ClipOptions)
    report: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        if self.spans is not None:
            if self.queries or self.videos:
                raise UsageError(
                    expected="videos and descriptions, or --spans FILE",
                    got="both",
                    fix="leave out one of them",
                )
            return
        check_samples(self.search.samples, self.config)
        check_queries(self.queries)
        check_sources(self.videos)

    @property
    def options(self) -> SearchOptions:
        """Search options, with boxes if a clip needs them."""
        return replace(self.search, box_every_s=self.search.box_every_s or self.clips.box_every_s)

    def settings(self, model: GenerationModel) -> dict[str, Any]:
        """Return everything that determines the rows, as JSON values."""
        options = self.options
        return {
            "queries": list(self.queries),
            "step_s": str(options.step_s),
            "num_frames": options.num_frames,
            "merge_gap_s": str(options.merge_gap_s),
            "samples": options.samples,
            "shots": options.shots,
            "box_every_s": None if options.box_every_s is None else str(options.box_every_s),
            **collect_settings(model, self.config).to_dict(),
        }


class FindSummary(NamedTuple):
    """What a run found and wrote."""

    results: tuple[VideoMoments, ...]
    paths: tuple[Path, ...]
    """tables, exports, contact sheets, report"""
    made: tuple[Made, ...]
    """clips and pictures"""
    problems: tuple[str, ...]
    """one line for each row of a table, export or sheet that could not be used or written"""

    @property
    def num_failed(self) -> int:
        """Number of videos, clips and files with an error."""
        failed = sum(one.error is not None for one in self.results)
        return failed + sum(one.error is not None for one in self.made) + len(self.problems)


def video_paths(sources: Sequence[str]) -> Iterator[tuple[Path, str | None]]:
    """Yield the path of each video, or of a file that is none with the reason.

    Raises:
        InputError: a path that does not exist.
    """
    for unit in read_units(sources):
        path = Path(unit.path or unit.id)
        if unit.error is not None:
            yield path, unit.error
        elif unit.items and unit.items[0].kind == "video":
            yield Path(unit.items[0].path), None
        else:
            yield path, "expected a video; got a picture or document. Fix: leave it out"


def run_find(
    spec: FindSpec, model: GenerationModel | None, progress: ProgressReporter | None = None
) -> FindSummary:
    """Run or resume a search in a folder, and write what is made of it.

    Args:
        spec: videos, descriptions, outputs.
        model: a loaded model; None with a table of spans.
        progress: receives the number of videos and of clips.

    Raises:
        UsageError: `out` contains a run with other settings.
        InputError: no such table of spans.
        OutputError: `out` cannot be written.
        EndpointError: all servers fail.
    """
    progress = progress or NoProgress()
    problems: list[str] = []
    if spec.spans is not None:
        rows, problems = read_spans(spec.spans)
        results, more = results_of_spans(rows, spec.config.media, shots=spec.search.shots)
        problems += more
    else:
        assert model is not None, "a search needs a model"
        results = _searched(spec, model, progress)
    return _written(spec, results, problems, progress)


def _searched(
    spec: FindSpec, model: GenerationModel, progress: ProgressReporter
) -> list[VideoMoments]:
    settings = spec.settings(model)
    check_row_settings(spec.out, settings)
    queries = check_queries(spec.queries)
    found: dict[Path, VideoMoments] = {}
    with RowWriter(spec.out, settings) as writer:
        videos = list(video_paths(spec.videos))
        update = progress.start("videos", len(videos))
        waiting = []
        for path, error in videos:
            note_media_folders(spec.out, [path.parent])
            known = None if error else result_of_rows(path, queries, writer, spec.config.media)
            if error is not None:
                found[path] = VideoMoments(path, queries, error=error)
            elif known is not None:
                found[path] = known
            else:
                waiting.append(path)
        update(len(found))
        position = {path: number for number, (path, _) in enumerate(videos)}
        for result in find_moments(
            waiting,
            spec.queries,
            model,
            spec.options,
            spec.config,
            on_video=_noted(update, found),
        ):
            _append(writer, result, position[result.video])
            found[result.video] = replace(result, traces=())
            update(len(found))
        for path, error in videos:
            if error is not None:
                _append(writer, found[path], position[path])
        writer.complete()
    return [found[path] for path, _ in videos]


def _noted(update: Update, found: dict[Path, VideoMoments]) -> Callable[[str], None]:
    return lambda note: update(len(found), note)


def _append(writer: RowWriter, result: VideoMoments, position: int) -> None:
    traces = result.traces
    num = len(result.queries)
    for number, row in enumerate(rows_of_result(result)):
        writer.append(row, traces if number == 0 else (), position * num + number)


def _written(
    spec: FindSpec,
    results: Sequence[VideoMoments],
    problems: list[str],
    progress: ProgressReporter,
) -> FindSummary:
    """Write everything that is made of the results. A failed file is one line, and the others are written."""
    overwrite = spec.clips.overwrite
    paths: list[Path] = []

    def tried(files: Iterator[Path]) -> None:
        while True:
            try:
                paths.append(next(files))
            except StopIteration:
                return
            except PixelReasonerError as error:
                problems.append(str(error))
                return

    if spec.spans is None:
        text = csv_text(moment_rows(results))
        tried(iter_of(lambda: [write_new(spec.out / CSV, text, overwrite=overwrite)]))
    for name in spec.formats:
        tried(
            write_exports(
                results,
                spec.out / EXPORTS,
                [name],
                title=spec.out.absolute().name,
                handles_s=spec.clips.handles_s,
                overwrite=overwrite,
            )
        )
    made = tuple(_made(spec, results, progress))
    if any(result.moments for result in results):
        # The sheet and the report show the run as it is now.
        tried(iter_of(lambda: write_contact_sheets(results, spec.out / SHEET, overwrite=True)))
    sheets = [path for path in paths if path.name.startswith(Path(SHEET).stem)]
    if spec.report:
        traces = spec.out / TRACES
        tried(iter_of(lambda: [write_moments_report(results, traces, sheets, spec.out / REPORT)]))
    return FindSummary(tuple(results), tuple(paths), made, tuple(problems))


def iter_of(make: Callable[[], Sequence[Path]]) -> Iterator[Path]:
    """Yield the paths that a function returns when the first one is asked for."""
    yield from make()


def _made(
    spec: FindSpec, results: Sequence[VideoMoments], progress: ProgressReporter
) -> Iterator[Made]:
    if spec.clips.is_empty:
        return
    number, done = 1, 0
    update = progress.start("clips", None)
    for stem, result in zip(unique_stems(results), results, strict=True):
        clips = make_clips(
            result, spec.out, stem, spec.clips, first_number=number, limits=spec.config.media
        )
        number += len(result.moments)
        for one in clips:
            done += 1
            update(done, one.path.name)
            yield one
