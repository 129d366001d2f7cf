"""HR-Bench (arXiv 2408.15556): 4K and 8K pictures, each question asked four times with rotated options.

The official metric is the mean of the accuracies within each of the four cycles. `labels["cycle"]` contains the cycle,
and rows
of one picture are one cluster. Base64 pictures of 8K are decoded one row at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.benchmark import Benchmark, RowDraft, read_drafts, register_benchmarks
from pixel_reasoner.evals.readers import (
    choice,
    columns,
    files_below,
    question,
    tsv_rows,
)
from pixel_reasoner.schema.question import Question
from pixel_reasoner.sources.cells import check_values, parse_text
from pixel_reasoner.sources.pictures import save_base64_picture
from pixel_reasoner.sources.rows import SkippedRow, parquet_rows

COLUMNS = ("index", "question", "answer", "category", "A", "B", "C", "D", "cycle_category", "image")


def read(size: str, data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of `hr_bench_4k.tsv`, or of the parquet file of that name."""
    for path in files_below(
        data, f"*hr_bench_{size}*.parquet", f"*hr_bench_{size}*.tsv", f"*{size}*.parquet"
    ):
        rows = (
            parquet_rows(path, COLUMNS, at_once=4)
            if path.suffix == ".parquet"
            else tsv_rows(path, COLUMNS)
        )
        yield from read_drafts(path, rows, partial(_question, size, media))


def _question(size: str, media: Path, row: dict[str, Any]) -> Question:
    check_values(row, ("index", "question", "answer", "category", "cycle_category"))
    return question(
        id=f"hrbench-{size}-{row['index']}",
        media=(save_base64_picture(row["image"], media),),
        category=parse_text(row["category"], "category"),
        labels={"cycle": parse_text(row["cycle_category"], "cycle_category")},
        **choice(row["question"], columns(row), row["answer"]),
    )


register_benchmarks(
    *(
        Benchmark(
            name=f"hrbench-{size}",
            measures=f"details of {size.upper()} pictures: of one object (single) and of several (cross)",
            files=f"hr_bench_{size}.tsv or hr_bench_{size}.parquet",
            rows="800 (200 questions in 4 cycles)",
            metric="accuracy, mean of the cycles",
            read=partial(read, size),
            categories=("single", "cross"),
            hub="DreamMr/HR-Bench",
        )
        for size in ("4k", "8k")
    )
)
