"""Anyone's own questions: neutral JSONL rows, and the `*-EvalData-PixelReasoner` parquet sets of the released evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixel_reasoner.data.questions import read_questions
from pixel_reasoner.data.rows import Dropped, Row
from pixel_reasoner.evals.task import Draft, Task, files_below


def read_jsonl(data: Path, media: Path) -> Iterator[Draft | Dropped]:
    """Rows of all JSONL files of a folder (`data.seeds.read_jsonl`)."""
    del media
    for path in files_below(data, "*.jsonl"):
        yield from map(_draft, read_questions(path))


def read_released(data: Path, media: Path) -> Iterator[Draft | Dropped]:
    """Rows of the parquet files of a folder, pictures beside them."""
    del media
    for path in files_below(data, "*.parquet"):
        yield from map(_draft, read_questions(path))


def _draft(row: Row) -> Draft | Dropped:
    return row if isinstance(row, Dropped) else Draft(row.id, lambda: row)


TASKS = (
    Task(
        name="jsonl",
        measures="whatever the file asks",
        files="*.jsonl: rows of the neutral format, or questions as this project writes them",
        rows="any",
        metric="by each row's answer_type",
        read=read_jsonl,
    ),
    Task(
        name="released",
        measures="V*, TallyQA, InfographicsVQA or MVBench as the released code evaluated them",
        files="<name>.parquet with its pictures unpacked beside it",
        rows="V* 191, TallyQA 3,200, InfographicsVQA and MVBench as published",
        metric="accuracy",
        read=read_released,
        hub="JasperHaozhe/VStar-EvalData-PixelReasoner",
    ),
)
