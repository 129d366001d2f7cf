"""BLINK (arXiv 2404.12390): perception tasks that people solve within a blink; up to four pictures per question.

`prompt` of a row numbers the options and refers to the pictures. If it is missing, it is built from `question` and
`choices`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.benchmark import Benchmark, RowDraft, register_benchmarks
from pixel_reasoner.evals.readers import choice, files_below, question
from pixel_reasoner.schema.question import Question
from pixel_reasoner.sources.cells import check_values, is_missing, letter_options, optional_text
from pixel_reasoner.sources.pictures import save_cell_picture
from pixel_reasoner.sources.rows import RowError, SkippedRow, parquet_rows

PICTURES = tuple(f"image_{number}" for number in range(1, 10))


def read(data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of the validation files of all 14 configurations."""
    for path in files_below(data, "*/val*.parquet", "val*.parquet", "**/val*.parquet"):
        needed = ("idx", "question", "choices", "answer")
        rows = parquet_rows(path, needed, ("sub_task", "prompt", *PICTURES), at_once=8)
        for number, row in enumerate(rows, start=1):
            yield RowDraft(
                f"{path.parent.name}/{path.name}, row {number}", partial(_question, row, media)
            )


def _question(row: dict[str, Any], media: Path) -> Question:
    check_values(row, ("idx", "question", "answer"))
    pictures = [save_cell_picture(row[name], media) for name in PICTURES if row.get(name)]
    if not pictures:
        raise RowError("missing_picture", "expected image_1, image_2, ...")
    fields = choice(row["question"], letter_options(row["choices"] or ()), row["answer"])
    if not is_missing(row.get("prompt")):
        fields["text"] = row["prompt"].strip()
    return question(
        id=f"blink-{row['idx']}",
        media=tuple(pictures),
        category=optional_text(row.get("sub_task"), "sub_task"),
        **fields,
    )


register_benchmarks(
    Benchmark(
        name="blink",
        measures="14 tasks of perception, several pictures per question",
        files="<task>/val*.parquet for each of 14 tasks",
        rows="1,901 (validation)",
        metric="accuracy",
        read=read,
        needs="the test split's answers are not public",
        hub="BLINK-Benchmark/BLINK",
    ),
)
