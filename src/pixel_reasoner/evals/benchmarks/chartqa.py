"""ChartQA (arXiv 2203.10244): human-written and machine-generated questions about charts; relaxed accuracy.

Two layouts: the official `test_human.json` and `test_augmented.json` with the pictures in `png`, and the parquet files
of lmms-lab/ChartQA.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.benchmark import Benchmark, RowDraft, register_benchmarks
from pixel_reasoner.evals.readers import (
    SHORT,
    files_below,
    find_media_file,
    image,
    json_rows,
    question,
)
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.sources.cells import check_values, is_missing, parse_answers, parse_text
from pixel_reasoner.sources.pictures import save_cell_picture
from pixel_reasoner.sources.rows import SkippedRow, parquet_rows


def read(data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of the official JSON files or of parquet files."""
    for path in files_below(data, "test_*.json", "test/test_*.json", "**/test*.parquet"):
        if path.suffix == ".parquet":
            rows = parquet_rows(path, ("type", "question", "answer", "image"), at_once=16)
            for number, row in enumerate(rows):
                kind = "" if is_missing(row["type"]) else str(row["type"]).removesuffix("_test")
                about = (kind, f"{path.stem}-{number}", row["question"], row["answer"])
                picture = partial(save_cell_picture, row["image"], media)
                yield RowDraft(f"{path.name}, row {number}", partial(_question, *about, picture))
            continue
        kind = path.stem.removeprefix("test_")
        for number, row in enumerate(json_rows(path)):
            yield RowDraft(f"{path.name}, row {number}", partial(_of_json, kind, number, row, path))


def _of_json(kind: str, number: int, row: dict[str, Any], path: Path) -> Question:
    check_values(row, ("imgname", "query", "label"))
    picture = partial(_file, path.parent, parse_text(row["imgname"], "imgname"))
    return _question(kind, f"{kind}-{number}", row["query"], row["label"], picture)


def _file(folder: Path, name: str) -> MediaItem:
    return image(find_media_file(folder, name, "png"))


def _question(kind: str, name: str, text: Any, answer: Any, picture: Any) -> Question:
    return question(
        id=f"chartqa-{name}",
        text=parse_text(text, "question") + SHORT,
        media=(picture(),),
        answer=parse_answers(answer),
        answer_type="relaxed",
        category=kind,
    )


register_benchmarks(
    Benchmark(
        name="chartqa",
        measures="values of charts, and reasoning with them",
        files="test/test_human.json, test/test_augmented.json and test/png, or data/test*.parquet",
        rows="2,500",
        metric="relaxed accuracy (5 %)",
        read=read,
        categories=("human", "augmented"),
        hub="lmms-lab/ChartQA",
    ),
)
