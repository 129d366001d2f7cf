"""MME-RealWorld (arXiv 2408.13257) and its Lite subset: high-resolution pictures of five domains, five options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from pixel_reasoner.sources.cells import check_values, letter_options, optional_text
from pixel_reasoner.sources.pictures import save_cell_picture
from pixel_reasoner.sources.rows import SkippedRow, parquet_rows

PARQUET = ("index", "bytes", "question", "multi-choice options", "answer", "category")
TSV = ("index", "image", "question", "answer", "category")


def read(
    name: str, patterns: Sequence[str], data: Path, media: Path
) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of the parquet files (`bytes` is base64) or of a TSV."""
    for path in files_below(data, *patterns):
        rows = (
            parquet_rows(path, PARQUET, ("l2-category",), at_once=4)
            if path.suffix == ".parquet"
            else tsv_rows(path, TSV)
        )
        yield from read_drafts(path, rows, partial(_question, name, media))


def _question(name: str, media: Path, row: dict[str, Any]) -> Question:
    check_values(row, ("index", "question", "answer"))
    listed = row.get("multi-choice options")
    if isinstance(listed, str):
        listed = [line for line in listed.splitlines() if line.strip()]
    options = letter_options(listed) if listed else columns(row)
    domain = optional_text(row.get("l2-category"), "l2-category")
    return question(
        id=f"{name}-{row['index']}",
        media=(save_cell_picture(row.get("bytes", row.get("image")), media),),
        category=optional_text(row["category"], "category"),
        labels={"domain": domain} if domain else {},
        **choice(row["question"], options, row["answer"]),
    )


register_benchmarks(
    Benchmark(
        name="mme-realworld",
        measures="high-resolution pictures: monitoring, driving, text, diagrams, remote sensing",
        files="data/*.parquet, or MME-RealWorld.tsv",
        rows="23,609",
        metric="accuracy",
        read=partial(
            read, "mme-realworld", ("data/train*.parquet", "**/*.parquet", "MME-RealWorld.tsv")
        ),
        hub="yifanzhang114/MME-RealWorld-lmms-eval",
    ),
    Benchmark(
        name="mme-realworld-lite",
        measures="the same, 50 questions of each task",
        files="data/*.parquet, or MME-RealWorld-Lite.tsv",
        rows="1,919",
        metric="accuracy",
        read=partial(
            read,
            "mme-realworld-lite",
            ("data/train*.parquet", "**/*.parquet", "MME-RealWorld-Lite.tsv"),
        ),
        hub="yifanzhang114/MME-RealWorld-lite-lmms-eval",
    ),
)
