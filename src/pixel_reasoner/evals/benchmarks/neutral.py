"""Anyone's own questions: neutral JSONL rows, and the `*-EvalData-PixelReasoner` parquet sets of the released evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixel_reasoner.evals.benchmark import Benchmark, RowDraft, files_below
from pixel_reasoner.sources.questions import read_questions
from pixel_reasoner.sources.rows import Row, SkippedRow


def read_jsonl(data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Rows of all JSONL files of a folder (`data.seeds.read_jsonl`)."""
    del media
    for path in files_below(data, "*.jsonl"):
        yield from map(_draft, read_questions(path))


def read_released(data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Rows of the parquet files of a folder, pictures beside them."""
    del media
    for path in files_below(data, "*.parquet"):
        yield from map(_draft, read_questions(path))


def _draft(row: Row) -> RowDraft | SkippedRow:
    return row if isinstance(row, SkippedRow) else RowDraft(row.id, lambda: row)


TASKS = (
    Benchmark(
        name="jsonl",
        measures="whatever the file asks",
        files="*.jsonl: rows of the neutral format, or questions as this project writes them",
        rows="any",
        metric="by each row's answer_type",
        read=read_jsonl,
    ),
    Benchmark(
        name="released",
        measures="V*, TallyQA, InfographicsVQA or MVBench as the released code evaluated them",
        files="<name>.parquet with its pictures unpacked beside it",
        rows="V* 191, TallyQA 3,200, InfographicsVQA and MVBench as published",
        metric="accuracy",
        read=read_released,
        hub="JasperHaozhe/VStar-EvalData-PixelReasoner",
    ),
)
