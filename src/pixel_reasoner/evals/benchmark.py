"""Benchmarks: registry, base types and row selection.

A reader yields a `RowDraft` per row. A selected draft is converted to a `Question`, or to a `SkippedRow` with the
reason.
One row is in memory at a time: pictures embedded in a benchmark's files are written to a media folder, named by content
hash. A
question contains references and never pixels, and a picture that four rows share is written once.

A new benchmark is one call of `register_benchmarks(Benchmark(...))` in a module of `evals.benchmarks`, or an entry
point of the
group `pixel_reasoner.benchmarks` in another package.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.plugin_checks import is_instance
from pixel_reasoner.registry import Registry
from pixel_reasoner.schema.media_url import media_exists
from pixel_reasoner.schema.question import Question
from pixel_reasoner.sources.media_folders import data_folders, restricted_row
from pixel_reasoner.sources.rows import SkippedRow, try_build


class RowDraft(NamedTuple):
    """Parsed row that is not yet converted to a question."""

    where: str
    build: Callable[[], Question]
    """returns the question; raises `RowError`, or an error that `sources.rows.try_build` catches, for an unusable
    row"""


Reader = Callable[[Path, Path], Iterator[RowDraft | SkippedRow]]
"""(folder of the benchmark, folder for extracted pictures) -> its rows"""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Benchmark in a local folder."""

    name: str
    measures: str
    files: str
    """official files, relative to the folder of `--data`"""
    rows: str
    """number of rows, as published"""
    metric: str
    read: Reader
    categories: tuple[str, ...] = ()
    """known categories; rows of other categories are noted"""
    needs: str = ""
    """parts that the files do not contain"""
    hub: str = ""
    """where it is published: a data set of the Hugging Face hub, or a URL"""


BENCHMARKS = Registry[Benchmark](
    "benchmark",
    package="pixel_reasoner.evals.benchmarks",
    check=is_instance("benchmark", Benchmark, "`Benchmark(...)`"),
)
"""benchmarks by name"""


def register_benchmarks(*benchmarks: Benchmark) -> None:
    """Add benchmarks to the registry.

    Raises:
        PluginError: the name is already registered.
    """
    for one in benchmarks:
        BENCHMARKS.register(one.name, one)


def read_drafts(
    path: Path, rows: Iterable[dict[str, Any] | SkippedRow], build: Callable[[Any], Question]
) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of a file as drafts, named by file and row number. Skipped rows pass unchanged."""
    for number, row in enumerate(rows, start=1):
        if isinstance(row, SkippedRow):
            yield row
        else:
            yield RowDraft(f"{path.name}, row {number}", partial(build, row))


class Selection(NamedTuple):
    """Questions of a benchmark, and counts of the other rows."""

    questions: list[Question]
    dropped: list[SkippedRow]
    """unusable rows"""
    noted: list[SkippedRow]
    """selected rows with an anomaly"""
    read: int
    """number of rows"""


def select_questions(
    benchmark: Benchmark,
    data: Path,
    media: Path,
    limit: int | None = None,
    seed: int = 0,
    *,
    allow_media: Sequence[Path] = (),
) -> Selection:
    """Return the questions of a benchmark, in its own order.

    Args:
        benchmark: benchmark to load.
        data: folder of its files.
        media: folder for pictures that are embedded in its files.
        limit: maximum number of rows, drawn at random before conversion: an unusable row is not replaced by another.
        seed: random seed of the draw.
        allow_media: folders, in addition to `data` and `media`, from which rows may name media. Other rows are dropped.

    Raises:
        InputError: the files are not those of this benchmark.
    """
    allowed = (*data_folders(data), media, *allow_media)
    chosen = None
    if limit is not None:
        total = sum(1 for _ in benchmark.read(data, media))
        chosen = set(random.Random(f"limit/{seed}").sample(range(total), min(limit, total)))
    questions, dropped, noted = dict[str, Question](), list[SkippedRow](), list[SkippedRow]()
    number = -1
    for number, draft in enumerate(benchmark.read(data, media)):
        if chosen is not None and number not in chosen:
            continue
        row = draft if isinstance(draft, SkippedRow) else try_build(draft.where, draft.build)
        row = row if isinstance(row, SkippedRow) else restricted_row(row, allowed)
        if isinstance(row, SkippedRow):
            dropped.append(row)
        elif row.id in questions:
            dropped.append(SkippedRow(row.id, "duplicate_id", "another row has this id"))
        elif not any(answer.strip() for answer in row.answer):
            dropped.append(SkippedRow(row.id, "no_answer", "expected an answer"))
        elif missing := [m.path for m in row.media if not media_exists(m.path)]:
            dropped.append(SkippedRow(row.id, "missing_file", missing[0]))
        else:
            questions[row.id] = row
            noted += _anomalies(row, benchmark)
    return Selection(list(questions.values()), dropped, noted, number + 1)


def _anomalies(row: Question, benchmark: Benchmark) -> Iterator[SkippedRow]:
    if len({option.strip().lower() for option in row.options.values()}) < len(row.options):
        yield SkippedRow(row.id, "repeated_options", str(row.options))
    if benchmark.categories and row.category not in benchmark.categories:
        yield SkippedRow(row.id, "unknown_category", row.category or "none")


MAX_NAMED_ROWS = 20
"""maximum number of listed rows per reason in a summary"""


def row_counts(selection: Selection) -> dict[str, Any]:
    """Return row counts for a summary: total rows, and dropped and noted rows by reason."""
    counts: dict[str, Any] = {"read": selection.read, "selected": len(selection.questions)}
    for title, rows in (("dropped", selection.dropped), ("noted", selection.noted)):
        reasons: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            reasons[row.reason].append(f"{row.where}: {row.detail}" if row.detail else row.where)
        counts[title] = {
            why: {"count": len(named), "rows": named[:MAX_NAMED_ROWS]}
            for why, named in reasons.items()
        }
    return counts
