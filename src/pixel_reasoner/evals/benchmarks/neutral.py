"""Own questions: own rows (`sources.jsonl`, `sources.tables`), and the upstream evaluation sets (`*-EvalData-PixelReasoner` parquet)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixel_reasoner.evals.benchmark import Benchmark, RowDraft, register_benchmarks
from pixel_reasoner.evals.readers import files_below
from pixel_reasoner.sources.question_files import read_questions
from pixel_reasoner.sources.rows import Row, SkippedRow
from pixel_reasoner.sources.tables import is_saved_dataset


def read_jsonl(
    data: Path, media: Path, media_root: str | None = None
) -> Iterator[RowDraft | SkippedRow]:
    """Yield the own rows of a folder: JSONL or Parquet files, or a saved `datasets` data set.

    Args:
        data: folder or file.
        media: folder for pictures that are embedded in the files.
        media_root: URL that relative media paths are relative to; None: the folder of the file.
    """
    paths = [data] if is_saved_dataset(data) else files_below(data, "*.jsonl", "*.parquet")
    for path in paths:
        yield from map(_draft, read_questions(path, media, media_root))


def read_released(data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of the parquet files of a folder, with pictures in the same folder."""
    for path in files_below(data, "*.parquet"):
        yield from map(_draft, read_questions(path, media))


def _draft(row: Row) -> RowDraft | SkippedRow:
    return row if isinstance(row, SkippedRow) else RowDraft(row.id, lambda: row)


register_benchmarks(
    Benchmark(
        name="jsonl",
        measures="your own questions",
        files="*.jsonl or *.parquet: own rows, or questions in this project's format",
        rows="any",
        metric="by each row's answer_type",
        read=read_jsonl,
    ),
    Benchmark(
        name="released",
        measures="V*, TallyQA, InfographicsVQA or MVBench as the upstream code evaluates them",
        files="<name>.parquet with its pictures unpacked next to it",
        rows="V* 191, TallyQA 3,200, InfographicsVQA and MVBench as published",
        metric="accuracy",
        read=read_released,
        hub="JasperHaozhe/VStar-EvalData-PixelReasoner",
    ),
)
