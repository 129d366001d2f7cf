"""Reports of runs: one run, a comparison of two runs, or training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import UsageError
from pixel_reasoner.evals.run import SUMMARY, load_run
from pixel_reasoner.reports.dataset import is_synthesized, write_data_report
from pixel_reasoner.reports.page import write_report
from pixel_reasoner.reports.run import (
    OUTCOMES,
    comparison_head,
    order_by_outcome,
    outcomes,
    run_head,
    write_table,
)
from pixel_reasoner.reports.sections import SECTIONS, render_sections
from pixel_reasoner.reports.summary import read_summary
from pixel_reasoner.reports.training import write_training_report
from pixel_reasoner.reports.training_log import LOG, is_training_run
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.grading import Scorer


class WrittenReport(NamedTuple):
    """Result of writing a report."""

    out: Path
    curves: int = 0
    """number of panels with training curves; 0 for a report of traces"""
    unshown: Mapping[str, int] = {}
    """reason -> number of pictures that could not be shown"""
    tables: Sequence[Path] = ()
    is_shortened: bool = False
    """whether there are more traces than the limit"""


def write_run_report(  # noqa: PLR0913 - options of one command
    sources: Sequence[Path],
    out: Path,
    *,
    limit: int = 500,
    tables: Sequence[Path] = (),
    references: bool = False,
    sections: Sequence[str] = (),
    allow_media: Sequence[Path] = (),
    masks: str | None = None,
    refresh_s: float = 0.0,
) -> WrittenReport:
    """Write the report of an evaluation, of traces, of training data, or of one or more training runs.

    Args:
        sources: folders of training runs, or one folder or file of traces.
        out: the HTML file.
        limit: maximum number of traces on the page.
        tables: .md or .csv files for the metrics of an evaluation.
        references: whether published results of the benchmark are shown.
        sections: names of further sections above the traces (`reports.sections`); not for training runs.
        allow_media: folders, in addition to the run's, whose media may be shown (`runs.folder.load_run`).
        masks: model whose tokens show the loss mask of training data; None: no masks.
        refresh_s: the page loads itself again after this time; 0: never.

    Raises:
        UsageError: several sources that are not all training runs, masks without training data, a table with another ending, or an unknown section.
        PluginError: a section of another package that cannot be used.
        InputError: no traces, or a table of a run that is not finished.
        OutputError: a file cannot be written.
    """
    for name in sections:
        SECTIONS.get(name)  # before anything is read
    options = {"limit": limit, "allow_media": allow_media, "refresh_s": refresh_s}
    if all(map(is_training_run, sources)) or is_synthesized(sources[0]):
        _reject_options(sections, tables, references=references)
    if (written := _write_training_or_data(sources, out, masks, options)) is not None:
        return written
    if len(sources) > 1:
        raise UsageError(
            expected=f"one folder of traces, or several training runs with {LOG}",
            got=", ".join(map(str, sources)),
            fix="name one",
        )
    source = sources[0]
    if not (source / SUMMARY).exists():
        if tables or references:
            read_summary(source)  # raises: the run is not finished
        # A section needs all traces; without any, those beyond the limit are not read.
        found = list(islice(load_run(source, allow_media), None if sections else limit + 1))
        head = render_sections(sections, found)
        return _write_traces(found, out, source.name, limit, head)
    summary = read_summary(source)
    traces, by_question = order_by_outcome(source, summary.scorer, allow_media)
    head = run_head(summary, traces, references=references) + render_sections(sections, traces)
    for path in tables:
        write_table(summary, path)
    written = _write_traces(traces, out, source.name, limit, head, by_question)
    return written._replace(tables=tuple(tables))


def _write_training_or_data(
    sources: Sequence[Path], out: Path, masks: str | None, options: Mapping[str, Any]
) -> WrittenReport | None:
    """Write the report of training runs or of training data; None if the sources are something else.

    Args:
        sources: files and folders.
        out: the HTML file.
        masks: model whose tokens show the loss mask of training data.
        options: `limit`, `allow_media` and `refresh_s`.

    Raises:
        UsageError: masks without training data.
    """
    if all(map(is_training_run, sources)) and masks is None:
        training = write_training_report(sources, out, **options)
        page, is_shortened = training.page, training.is_shortened
        return WrittenReport(page.out, training.num_charts, page.unshown, (), is_shortened)
    if len(sources) == 1 and is_synthesized(sources[0]):
        data = write_data_report(sources[0], out, masks=masks, **options)
        return WrittenReport(data.page.out, 0, data.page.unshown, (), data.is_shortened)
    if masks is not None:
        raise UsageError(
            expected="--masks with training data, as `pixel-reasoner synth` writes it",
            got=", ".join(map(str, sources)),
            fix="leave it out",
        )
    return None


def _reject_options(sections: Sequence[str], tables: Sequence[Path], *, references: bool) -> None:
    """Raise `UsageError` for options of evaluations."""
    given = [f"--section {sections[0]}"] if sections else []
    given += ["--table"] * bool(tables) + ["--references"] * references
    if given:
        raise UsageError(
            expected="only options that have an effect on training runs and training data",
            got=given[0],
            fix="leave it out",
        )


def write_comparison(
    found: Mapping[str, Any],
    first: Path,
    second: Path,
    out: Path,
    limit: int = 200,
    allow_media: Sequence[Path] = (),
) -> WrittenReport:
    """Write the report of two compared runs: metrics, differing settings, and traces of the first run.

    Traces with different outcomes are first.

    Args:
        found: result of `evals.compare.compare_runs`.
        first: folder of the first run.
        second: folder of the second run.
        out: the HTML file.
        limit: maximum number of traces on the page.
        allow_media: folders, in addition to those of the runs, whose media may be shown.

    Raises:
        InputError: traces that cannot be read.
        OutputError: the file cannot be written.
    """
    names = str(first), str(second)
    traces = list(load_run(first, allow_media))
    by_question = outcomes(traces, load_run(second), Scorer(found["scorer"]))
    traces = [trace for trace in traces if trace.question.id in by_question]
    traces.sort(key=lambda trace: OUTCOMES.index(by_question[trace.question.id]))
    head = comparison_head(found, *names)
    title = f"{first.name} against {second.name}"
    return _write_traces(traces, out, title, limit, head, by_question)


def _write_traces(
    traces: Sequence[Trace],
    out: Path,
    title: str,
    limit: int,
    head: str = "",
    by_question: Mapping[str, str] | None = None,
) -> WrittenReport:
    page = write_report(traces[:limit], out, title=title, head=head, outcomes=by_question)
    return WrittenReport(out, unshown=page.unshown, is_shortened=len(traces) > limit)
