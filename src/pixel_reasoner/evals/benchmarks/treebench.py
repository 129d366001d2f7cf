"""TreeBench (arXiv 2507.07999): traceable evidence; every question has the boxes of its target objects.

The official metrics are accuracy and the mean IoU of boxes: here boxes of zoomed regions, or else of
`<box>[x1,y1,x2,y2]</box>` in
the text (`stats.mean_iou`).
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
from pixel_reasoner.media.images import image_size
from pixel_reasoner.schema.question import Evidence, Question
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS
from pixel_reasoner.sources.boxes import parse_box
from pixel_reasoner.sources.cells import check_values, letter_options, parse_list
from pixel_reasoner.sources.pictures import save_base64_picture
from pixel_reasoner.sources.rows import RowError, SkippedRow

COLUMNS = ("index", "image", "question", "answer", "category", "target_instances")


def read(data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of `TreeBench.tsv`."""
    for path in files_below(data, "TreeBench.tsv", "*[Tt]ree*.tsv"):
        yield from read_drafts(path, tsv_rows(path, COLUMNS), partial(_question, media))


def _question(media: Path, row: dict[str, str]) -> Question:
    check_values(row, ("index", "question", "answer"))
    picture = save_base64_picture(row["image"], media)
    options = columns(row) or _listed(row.get("multi-choice options", ""))
    size = image_size(Path(picture.path), DEFAULT_MEDIA_LIMITS)
    boxes = _parsed(row["target_instances"], "target_instances")
    return question(
        id=f"treebench-{row['index']}",
        media=(picture,),
        category=row["category"],
        evidence=Evidence(boxes=tuple(parse_box(box, size) for box in boxes)) if boxes else None,
        **choice(row["question"], options, row["answer"]),
    )


def _listed(text: str) -> dict[str, str]:
    if text.lstrip().startswith("["):
        return letter_options(_parsed(text, "multi-choice options"))
    return letter_options(line for line in text.splitlines() if line.strip())


def _parsed(text: str, name: str) -> list[Any]:
    value = parse_list(text) if text.strip() else []
    if value is None:
        raise RowError("bad_value", f"{name}: expected a list; got {text[:80]}")
    return value


register_benchmarks(
    Benchmark(
        name="treebench",
        measures="fine-grained perception and reasoning with traceable evidence",
        files="TreeBench.tsv",
        rows="405",
        metric="accuracy; mean IoU of boxes",
        read=read,
        hub="HaochenWang/TreeBench",
    ),
)
