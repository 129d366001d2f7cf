"""Reports of one evaluation, traces, a comparison, several evaluations, training data, or training runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import UsageError
from pixel_reasoner.evals.run import SETTINGS, SUMMARY
from pixel_reasoner.reports.comparison import (
    comparison_report,
    comparison_rows,
    comparison_table,
    scan_comparison,
)
from pixel_reasoner.reports.dataset import is_synthesized, write_data_report
from pixel_reasoner.reports.entry import Asked
from pixel_reasoner.reports.html import notebook_frame
from pixel_reasoner.reports.leaderboard import leaderboard_report, leaderboard_table, read_entries
from pixel_reasoner.reports.metrics import groups_section
from pixel_reasoner.reports.names import run_name, run_names
from pixel_reasoner.reports.page import INDEX, Row, write_rows
from pixel_reasoner.reports.run import MADE_BY, run_report, run_rows, scan_evaluation
from pixel_reasoner.reports.schema import Report, TableSection
from pixel_reasoner.reports.sections import SECTIONS, build_sections
from pixel_reasoner.reports.steps import outcome_in_words
from pixel_reasoner.reports.summary import read_summary
from pixel_reasoner.reports.tables import check_suffix, write_table
from pixel_reasoner.reports.training import write_training_report
from pixel_reasoner.reports.training_log import LOG, is_training_run
from pixel_reasoner.runs.trace_file import StoredTraces, TraceFile
from pixel_reasoner.scoring.grading import grade_reply

_MAX_NAMED = 3
RUN_HEIGHT_PX = 800
"""height of a report in a notebook"""
StartProgress = Callable[[str, int | None], Callable[[int], None]]
"""(title, total number of questions if known) -> function that receives the number of written questions"""


def no_progress(title: str, total: int | None) -> Callable[[int], None]:
    """Return a function that does nothing."""
    del title, total
    return lambda completed: None


class WrittenReport(NamedTuple):
    """Result of writing a report."""

    out: Path
    """the page: the given path, or `index.html` of a folder where the report is large"""
    curves: int = 0
    """number of panels with training curves; 0 for a report of traces"""
    unshown: Mapping[str, int] = {}
    """reason -> number of pictures that could not be shown"""
    tables: Sequence[Path] = ()
    is_shortened: bool = False
    """whether there are more traces than the limit"""

    def _repr_html_(self) -> str:
        """Return the page as HTML for a notebook. A folder is too large for one: it is named."""
        if self.out.name == INDEX:
            return f"<p>The report is a folder: open <code>{escape(str(self.out))}</code>.</p>"
        return notebook_frame(self.out.read_text(encoding="utf-8"), "report", RUN_HEIGHT_PX)


class _Options(NamedTuple):
    """What a report shows."""

    limit: int | None = None
    """maximum number of questions with traces; None for all"""
    tables: Sequence[Path] = ()
    """.md, .csv or .tex files for the table of metrics"""
    references: bool = False
    """whether published results of the benchmark are shown"""
    sections: Sequence[str] = ()
    """names of further sections (`reports.sections`)"""
    allow_media: Sequence[Path] = ()
    """folders, in addition to the run's, whose media may be shown (`runs.folder.load_run`)"""
    masks: str | None = None
    """model whose tokens show the loss mask of training data; None: no masks"""
    refresh_s: float = 0.0
    """the page loads itself again after this time; 0: never"""


def write_run_report(  # noqa: PLR0913 - options of one command
    sources: Sequence[Path],
    out: Path,
    *,
    limit: int | None = None,
    tables: Sequence[Path] = (),
    references: bool = False,
    sections: Sequence[str] = (),
    allow_media: Sequence[Path] = (),
    masks: str | None = None,
    refresh_s: float = 0.0,
    start_progress: StartProgress = no_progress,
) -> WrittenReport:
    """Write the report of an evaluation, of traces, of several evaluations, of training data, or of training runs.

    Args:
        sources: folders of evaluations or of training runs, or one folder or file of traces or training data.
        out: path of an HTML file, or of a folder if it has no suffix.
        limit: maximum number of questions with traces on the page; None for all.
        tables: .md, .csv or .tex files for the table of metrics of evaluations.
        references: whether published results of the benchmark are shown.
        sections: names of further sections (`reports.sections`) of traces or of an evaluation.
        allow_media: folders, in addition to the run's, whose media may be shown (`runs.folder.load_run`).
        masks: model whose tokens show the loss mask of training data; None: no masks.
        refresh_s: the page loads itself again after this time; 0: never.
        start_progress: is called before the questions are written.

    Raises:
        UsageError: sources of different kinds, options of another kind of report, or an unknown section.
        PluginError: a section of another package that cannot be used.
        InputError: no traces, or a table of a run that is not finished.
        OutputError: a file cannot be written.
    """
    options = _Options(limit, tables, references, sections, allow_media, masks, refresh_s)
    for name in options.sections:
        SECTIONS.get(name)  # before anything is read
    for path in options.tables:
        check_suffix(path)
    if all(map(is_training_run, sources)):
        return _write_training(sources, out, options)
    if len(sources) == 1 and is_synthesized(sources[0]):
        return _write_data(sources[0], out, options)
    _check_no_masks(options, sources)
    if len(sources) > 1:
        return _write_leaderboard(sources, out, options)
    if (sources[0] / SUMMARY).exists():
        return _write_evaluation(sources[0], out, options, start_progress)
    return _write_traces(sources[0], out, options, start_progress)


def write_comparison(  # noqa: PLR0913 - as in version 0.1
    found: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    first: Path,
    second: Path,
    out: Path,
    limit: int | None = None,
    allow_media: Sequence[Path] = (),
    *,
    more: Sequence[Path] = (),
    tables: Sequence[Path] = (),
    start_progress: StartProgress = no_progress,
) -> WrittenReport:
    """Write the report of compared runs: differences, differing settings, and the traces of all runs next to each other.

    Questions with different outcomes are first.

    Args:
        found: result of `evals.compare.compare_runs` for `first` and `second`; with `more` a list with one for each.
        first: folder of the run that all others are compared with.
        second: folder of the second run.
        out: path of an HTML file, or of a folder if it has no suffix.
        limit: maximum number of questions on the page; None for all.
        allow_media: folders, in addition to the folders of the runs, whose media may be shown.
        more: folders of further runs.
        tables: .md, .csv or .tex files for the differences by category.
        start_progress: is called before the questions are written.

    Raises:
        UsageError: a table with another ending.
        InputError: traces that cannot be read.
        OutputError: a file cannot be written.
    """
    results = [found] if isinstance(found, Mapping) else list(found)
    runs = [first, second, *more]
    write_comparison_tables(results, runs, tables)
    scanned = scan_comparison(runs, results, allow_media)
    report = comparison_report(scanned)
    total = len(scanned.first.traces)
    rows = comparison_rows(scanned, limit)
    compared = (scanned.first, *(one.run for one in scanned.others))
    skipped = [text for run in compared for text in unreadable_lines(run.file)]
    shown = _with_warnings(_shortened(report, total, limit), skipped)
    written = _write(rows, out, shown, first, start_progress("writing", total))
    return written._replace(is_shortened=limit is not None and total > limit, tables=tuple(tables))


def write_comparison_tables(
    found: Sequence[Mapping[str, Any]], runs: Sequence[Path], tables: Sequence[Path]
) -> None:
    """Write the differences of compared runs by category.

    Args:
        found: result of `evals.compare.compare_runs` for the first run and each of the others.
        runs: folders of all runs.
        tables: .md, .csv or .tex files.

    Raises:
        UsageError: another ending.
        OutputError: a file cannot be written.
    """
    for path in tables:
        check_suffix(path)
    _write_tables(comparison_table(run_names(runs), found), tables)


# --- kinds of reports ---


def _write_training(sources: Sequence[Path], out: Path, options: _Options) -> WrittenReport:
    _check_no_options(options)
    _check_no_masks(options, sources)
    written = write_training_report(
        sources,
        out,
        limit=options.limit,
        allow_media=options.allow_media,
        refresh_s=options.refresh_s,
    )
    page = written.page
    return WrittenReport(
        page.out, written.num_charts, page.unshown, is_shortened=written.is_shortened
    )


def _write_data(source: Path, out: Path, options: _Options) -> WrittenReport:
    _check_no_options(options)
    written = write_data_report(
        source,
        out,
        limit=options.limit,
        allow_media=options.allow_media,
        masks=options.masks,
        refresh_s=options.refresh_s,
    )
    page = written.page
    return WrittenReport(page.out, unshown=page.unshown, is_shortened=written.is_shortened)


def _write_evaluation(
    source: Path, out: Path, options: _Options, start_progress: StartProgress
) -> WrittenReport:
    scanned = scan_evaluation(source, options.allow_media)
    run, total = scanned.run, len(scanned.run.traces)
    traces = StoredTraces(run.file, [one.offset for one in run.traces])
    report = run_report(
        scanned,
        references=options.references,
        sections=build_sections(options.sections, traces),
    )
    _write_tables(groups_section(scanned.summary), options.tables)
    rows = run_rows(scanned, options.limit)
    limited = _refreshed(_shortened(report, total, options.limit), options)
    limited = _with_warnings(limited, unreadable_lines(scanned.run.file))
    on_item = start_progress("writing", min(total, options.limit or total))
    written = _write(rows, out, limited, source, on_item)
    return written._replace(
        tables=tuple(options.tables),
        is_shortened=options.limit is not None and total > options.limit,
    )


def _write_traces(
    source: Path, out: Path, options: _Options, start_progress: StartProgress
) -> WrittenReport:
    """Write traces without a summary: of another program, of a run in progress, or of synthesis."""
    if options.tables or options.references:
        read_summary(source)  # raises: the run is not finished
    file = TraceFile(source, options.allow_media, skips_unreadable=True)
    sections = []
    if options.sections:
        offsets = [stored.offset for stored in file.scan()]
        sections = build_sections(options.sections, StoredTraces(file, offsets))
    is_unfinished = (source / SETTINGS).exists()
    report = Report(
        title=run_name(source),
        sections=tuple(sections),
        warnings=(
            "The run is not finished: the metrics follow when its last question is answered.",
        )
        * is_unfinished,
        made_by=MADE_BY,
    )
    counted = _Counted(_plain_rows(file), options.limit)
    progress = cache(partial(start_progress, "writing", None))  # not before the file is open
    written = _write(
        *(counted, out, _refreshed(report, options), file.folder, lambda n: progress()(n)),
        late_warnings=lambda: unreadable_lines(file),
    )
    return written._replace(is_shortened=counted.has_more)


def _plain_rows(file: TraceFile) -> Iterator[Row]:
    for stored in file.scan():
        trace = stored.trace
        yield Row([Asked(trace, outcome_in_words(grade_reply(trace)))])


class _Counted:
    """At most `limit` rows, and whether there are more."""

    def __init__(self, rows: Iterator[Row], limit: int | None) -> None:
        self.rows, self.limit = rows, limit
        self.has_more = False

    def __iter__(self) -> Iterator[Row]:
        yield from islice(self.rows, self.limit)
        self.has_more = next(self.rows, None) is not None


def _write_leaderboard(sources: Sequence[Path], out: Path, options: _Options) -> WrittenReport:
    others = [source for source in sources if not (source / SUMMARY).exists()]
    if others:
        raise UsageError(
            expected=f"one folder of traces, or several evaluations with {SUMMARY}, or several training runs with {LOG}",
            got=f"{', '.join(map(str, sources))}: {others[0]} is not a finished evaluation",
            fix="name one, or runs of one kind",
        )
    _check_no_sections(options, "a table of several runs")
    entries = read_entries(sources)
    _write_tables(leaderboard_table(entries), options.tables)
    written = write_rows((), out, leaderboard_report(entries))
    return WrittenReport(written.out, tables=tuple(options.tables))


# --- writing ---


def _write(
    rows: Iterable[Row],
    out: Path,
    report: Report,
    root: Path,
    on_item: Callable[[int], None],
    late_warnings: Callable[[], Sequence[str]] = tuple,
) -> WrittenReport:
    page = write_rows(rows, out, report, root, on_item, late_warnings=late_warnings)
    return WrittenReport(page.out, unshown=page.unshown)


def _write_tables(table: TableSection, paths: Sequence[Path]) -> None:
    for path in paths:
        write_table(table, path)


def _shortened(report: Report, total: int, limit: int | None) -> Report:
    """Return a report with a warning if it does not contain all traces."""
    if limit is None or total <= limit:
        return report
    warning = f"The page contains the first {limit:,} of {total:,} questions. The metrics and charts are those of all."
    return _with_warnings(report, [warning])


def unreadable_lines(file: TraceFile) -> list[str]:
    """Return a warning about lines that are no traces of this version, for example of a newer one."""
    if not file.unreadable:
        return []
    more = f"; and {len(file.unreadable) - _MAX_NAMED} more" * (len(file.unreadable) > _MAX_NAMED)
    named = "; ".join(file.unreadable[:_MAX_NAMED])
    return [f"Lines of {file.path.name} that are not shown: {len(file.unreadable)}. {named}{more}"]


def _with_warnings(report: Report, warnings: Sequence[str]) -> Report:
    return report.model_copy(update={"warnings": (*report.warnings, *warnings)})


def _refreshed(report: Report, options: _Options) -> Report:
    return report.model_copy(update={"refresh_s": options.refresh_s})


def _check_no_options(options: _Options) -> None:
    """Raise an error for options of evaluations."""
    given = [f"--section {options.sections[0]}"] if options.sections else []
    given += ["--table"] * bool(options.tables) + ["--references"] * options.references
    if given:
        raise UsageError(
            expected="only options that have an effect on training runs and training data",
            got=given[0],
            fix="leave it out",
        )


def _check_no_masks(options: _Options, sources: Sequence[Path]) -> None:
    if options.masks is not None:
        raise UsageError(
            expected="--masks with training data, as `pixel-reasoner synth` writes it",
            got=", ".join(map(str, sources)),
            fix="leave it out",
        )


def _check_no_sections(options: _Options, what: str) -> None:
    if options.sections:
        raise UsageError(
            expected="sections of a report of traces",
            got=f"{options.sections[0]} for {what}",
            fix="leave --section out",
        )
