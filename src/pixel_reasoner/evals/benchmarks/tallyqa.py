"""TallyQA (arXiv 1810.12440): counting in photographs. Complex questions need more than object detection."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.benchmark import Benchmark, RowDraft, register_benchmarks
from pixel_reasoner.evals.readers import files_below, find_media_file, image, json_rows, question
from pixel_reasoner.schema.question import Question
from pixel_reasoner.sources.cells import check_values, optional_text, parse_answers, parse_text
from pixel_reasoner.sources.rows import RowError, SkippedRow


def read(simple: bool, data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of `test.json`. Pictures of Visual Genome and COCO are in the folders that rows name."""
    del media
    for path in files_below(data, "test.json", "*test*.json"):
        for number, row in enumerate(json_rows(path), start=1):
            if bool(row.get("issimple", row.get("is_simple", False))) == simple:
                yield RowDraft(f"{path.name}, row {number}", partial(_question, row, path.parent))


def _question(row: dict[str, Any], folder: Path) -> Question:
    check_values(row, ("image", "answer", "question", "question_id"))
    if "issimple" not in row and "is_simple" not in row:
        raise RowError("missing_keys", f"expected issimple; got {' '.join(row)}")
    return question(
        id=f"tallyqa-{row['question_id']}",
        text=f"{parse_text(row['question'], 'question')}\nAnswer the question using a single number.",
        media=(
            image(
                find_media_file(
                    folder, parse_text(row["image"], "image"), "images", "VisualGenome", "coco"
                )
            ),
        ),
        answer=parse_answers(row["answer"]),
        answer_type="integer",
        category=optional_text(row.get("data_source"), "data_source"),
    )


register_benchmarks(
    *(
        Benchmark(
            name=f"tallyqa-{kind}",
            measures=f"counting, {kind} questions",
            files="test.json, and the pictures below it at the paths in the rows",
            rows=rows,
            metric="accuracy of the exact count",
            read=partial(read, kind == "simple"),
            needs="pictures of Visual Genome and COCO",
            hub="https://github.com/manoja328/tallyqa",
        )
        for kind, rows in (("complex", "15,598"), ("simple", "22,991"))
    )
)
