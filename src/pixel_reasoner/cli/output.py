"""Output of commands: messages, progress bars, tables of metrics."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pixel_reasoner.cli.adaptivity_output import print_adaptivity_and_controls
from pixel_reasoner.errors import UsageError
from pixel_reasoner.files import check_suffix
from pixel_reasoner.text import visible

if TYPE_CHECKING:
    from pixel_reasoner.reports.picture_files import WrittenPicture
    from pixel_reasoner.workflows.progress import Update

SUMMARY_COLUMNS = {
    "count": "asked",
    "accuracy": "accuracy",
    "accuracy_interval": "95 %",
    "score": "score",
    "rapr": "RaPR",
    "evidence_hit_rate": "evidence",
    "operation_error_rate": "rejected",
    "repaired_rate": "repaired",
    "unparsed_rate": "unparsed",
    "mean_operations": "operations",
}
"""metric -> column title"""


def print_line(*parts: str | tuple[str, str]) -> None:
    """Print a line to standard output. A part is a text, or a text with a style; markup in a text has no effect."""
    from rich.console import Console
    from rich.text import Text

    shown = [visible(one) if isinstance(one, str) else (visible(one[0]), one[1]) for one in parts]
    Console(highlight=False, soft_wrap=True).print(Text.assemble(*shown))


def warn(text: str) -> None:
    """Print a line to standard error."""
    print(visible(text), file=sys.stderr)


def check_output_file(path: Path, option: str, suffixes: Sequence[str] = ()) -> None:
    """Raise an error if a file cannot be written because of existing files, before anything is computed.

    Args:
        path: of the file.
        option: with which it was given, for the message.
        suffixes: allowed suffixes; empty for any.

    Raises:
        UsageError: the path is a folder, a parent of the path is a file, or another suffix.
    """
    suffix = suffixes[0] if suffixes else ".html"
    if path.is_dir():
        raise UsageError(
            expected=f"{option} with the name of a file",
            got=f"{path}, which is a folder",
            fix=f"for example {option} {path / f'out{suffix}'}",
        )
    if suffixes:
        check_suffix(path, suffixes, option)
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise UsageError(
                expected=f"{option} in a folder",
                got=f"{path}, below the file {parent}",
                fix="choose another path",
            )


class ProgressBars:
    """Progress bars on standard error."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self.is_started = False

    def start(self, title: str, total: int | None) -> Update:
        """Add a bar and return its setter."""
        self._progress.start()
        self.is_started = True
        bar = self._progress.add_task(title, total=total, note="")

        def update(completed: int, note: str = "") -> None:
            self._progress.update(bar, completed=completed, note=note)

        return update


@contextmanager
def progress_bars() -> Iterator[ProgressBars]:
    """Show progress bars inside the context, from the first that starts. Without any, nothing is printed."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )
    bars = ProgressBars(progress)
    try:
        yield bars
    finally:
        if bars.is_started:
            progress.stop()


def print_report_written(out: Path, unshown: Mapping[str, int], *, quiet: bool = False) -> None:
    """Print the path of a report, and the reasons for missing pictures."""
    if not quiet:
        print_line(f"Report: {out}")
    for why, count in unshown.items():
        warn(f"not shown: {count} pictures: {why}")


def print_pictures_written(pictures: Mapping[str, WrittenPicture], *, quiet: bool = False) -> None:
    """Print the paths of pictures of a trace by kind, their alt text, and what they do not show."""
    if not quiet:
        for kind, written in pictures.items():
            print_line(f"{kind}: {written.out}")
        for alt in {one.alt_text for one in pictures.values()}:
            print_line((f"Alt text: {alt}", "dim"))
    for note in {note: None for one in pictures.values() for note in one.notes}:
        warn(f"note: {note}")


INCOMPLETE = 3
"""exit code of a batch of which some rows failed; of an evaluation of which all questions failed"""


def print_summary(summary: Mapping[str, Any], out: Path) -> None:
    """Print the metrics of an evaluation: one row for all questions, each category and each family.

    Raises:
        typer.Exit: all questions failed. The last line says so.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    families = summary.get("by_family", {})
    groups = {"all": summary, **summary["by_category"], **(families if len(families) > 1 else {})}
    unneeded = {"score"} if summary["score"] == summary["accuracy"] else set()
    unneeded |= set() if summary["repaired_rate"] else {"repaired_rate"}
    metrics = [metric for metric in SUMMARY_COLUMNS if metric not in unneeded]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold", max_width=17)
    for metric in metrics:
        table.add_column(SUMMARY_COLUMNS[metric], justify="right", no_wrap=True)
    for name, group in groups.items():
        table.add_row(Text(visible(name)), *(format_metric(group[metric]) for metric in metrics))
    Console().print(table)
    _print_cost(summary)
    if summary["failed"] and summary["count"]:
        num_asked = summary["count"] + len(summary["failed"])
        warn(
            f"warning: {len(summary['failed'])} of {num_asked} questions failed and are not in the accuracy;"
            " the same command asks them again"
        )
    if summary["repaired_rate"]:
        print_line(
            f"accuracy {format_metric(summary['strict_accuracy'])} if answers after a repaired call counted as wrong; "
            "--strict repairs nothing"
        )
    if "cyclic_accuracy" in summary:
        print_line(f"cyclic_accuracy {summary['cyclic_accuracy']:g}")
    _print_repeats(summary.get("repeats", {}))
    if summary.get("ece") is not None:
        print_line(f"ece {summary['ece']:g} (expected calibration error of the confidence)")
    if "gain" in summary:
        print_comparison(summary, "gain", "harm", "with", "without")
    print_adaptivity_and_controls(summary)
    if summary.get("recovery_rate") is not None:
        print_line(
            f"recovery_rate {summary['recovery_rate']:g} of {summary['disturbed']} disturbed"
        )
    _print_rows(summary)
    print_line(f"Traces and summary: {out}")
    if summary["failed"] and not summary["count"]:
        asked = (
            "The question"
            if len(summary["failed"]) == 1
            else f"All {len(summary['failed'])} questions"
        )
        warn(f"error: {asked} failed; nothing was measured. The same command asks again")
        raise typer.Exit(INCOMPLETE)


def print_comparison(
    found: Mapping[str, Any], gain: str, harm: str, with_: str, without: str
) -> None:
    """Print the shares of a comparison under the given titles, and its paired test."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    titles = {
        "with": with_,
        "without": without,
        "gain": gain,
        "harm": harm,
        "both": "both right",
        "neither": "neither",
        "difference": "difference",
    }
    table = Table(box=None, header_style="bold")
    for name in (f"{found['with']['count']} questions", "share", "95 %"):
        table.add_column(name, justify="left" if name.endswith("questions") else "right")
    for name, title in titles.items():
        one = found[name]
        table.add_row(
            Text(visible(title)), format_metric(one["value"]), format_metric(one["interval"])
        )
    Console().print(table)
    print_line(f"paired test of the difference: p = {found['difference']['p']:g}")


def format_metric(value: Any) -> str:
    """Return a metric as text.

    >>> format_metric(None), format_metric([0.5, 0.75]), format_metric(12), format_metric(0.5)
    ('–', '0.50–0.75', '12', '0.500')
    """
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{value[0]:.2f}–{value[1]:.2f}"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _print_cost(summary: Mapping[str, Any]) -> None:
    """Print rollouts, tokens and time per answer."""
    num_rollouts = summary["rollouts_per_question"]
    parts = [] if num_rollouts in (None, 1) else [f"{num_rollouts:g} rollouts"]
    tokens, visual = summary["tokens_per_question"], summary["visual_tokens_per_question"]
    if tokens is not None:
        parts.append(f"{tokens:,.0f} tokens" + (f" ({visual:,.0f} visual)" if visual else ""))
    if summary["seconds_per_question"] is not None:
        parts.append(f"{summary['seconds_per_question']:.2g} s")
    if parts:
        print_line(f"cost per answer: {', '.join(parts)}")


def _print_repeats(repeats: Mapping[str, Any]) -> None:
    groups = {"": repeats, **repeats.get("by_category", {})}
    for group, metrics in groups.items():
        for name, metric in metrics.items():
            if name.startswith(("avg@", "maj@", "pass@")):
                title = f"{name} {group} ".strip()
                print_line(f"{title} {metric['value']:g} {format_metric(metric['interval'])}")


def _print_rows(summary: Mapping[str, Any]) -> None:
    """Print the number of skipped rows, and the reasons."""
    rows = summary.get("rows")
    if rows is not None:
        share = summary["count"] / max(1, rows["read"])
        print_line(f"evaluated {summary['count']} of {rows['read']} rows ({share:.1%})")
        for title in ("dropped", "noted"):
            for reason, one in rows[title].items():
                warn(f"{title}: {reason} {one['count']}: {'; '.join(one['rows'][:3])}")
    for name, reason in summary["failed"].items():
        warn(f"failed: {name}: {reason}")
