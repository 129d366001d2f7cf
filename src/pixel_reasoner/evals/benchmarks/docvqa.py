"""DocVQA (arXiv 2007.00398) and InfographicsVQA (arXiv 2104.12756): contents of pages; ANLS.

Two layouts: the official JSON (`data`: a list) with the pictures next to it, and the parquet files of lmms-lab/DocVQA.
The answers
of the test splits are not public: their rows are dropped as `no_answer`.
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
from pixel_reasoner.sources.rows import RowError, SkippedRow, parquet_rows

PLACES = ("images", "documents", "infographicsvqa_images", "infographicsVQA_images")


def read(
    name: str, official: str, hub: str, data: Path, media: Path
) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of the official JSON or of parquet files."""
    for path in files_below(data, official, f"{hub}/validation*.parquet", "validation*.parquet"):
        if path.suffix == ".parquet":
            columns = ("questionId", "question", "answers", "image")
            for row in parquet_rows(path, columns, ("answer_type", "question_types"), at_once=16):
                picture = partial(save_cell_picture, row["image"], media)
                yield RowDraft(f"row {row['questionId']}", partial(_question, name, row, picture))
            continue
        for row in json_rows(path, "data"):
            picture = partial(_file, path.parent, row)
            yield RowDraft(f"row {row.get('questionId')}", partial(_question, name, row, picture))


def _file(folder: Path, row: dict[str, Any]) -> MediaItem:
    for key in ("image_local_name", "image"):
        if not is_missing(row.get(key)):
            return image(find_media_file(folder, parse_text(row[key], key), *PLACES))
    raise RowError("missing_keys", "expected image_local_name or image")


def _question(name: str, row: dict[str, Any], picture: Any) -> Question:
    check_values(row, ("questionId", "question"))
    answers = row.get("answers")
    if is_missing(answers) or answers == []:
        raise RowError("no_answer", "the answers of this split are not public")
    kinds = row.get("answer_type") or row.get("question_types") or ()
    return question(
        id=f"{name}-{row['questionId']}",
        text=parse_text(row["question"], "question") + SHORT,
        media=(picture(),),
        answer=parse_answers(answers, "answers"),
        answer_type="anls",
        category=" ".join(sorted(parse_answers(kinds, "answer_type"))) if kinds else "",
    )


register_benchmarks(
    Benchmark(
        name="infographicsvqa",
        measures="reading and reasoning over infographics",
        files="infographicsVQA_val*.json with the pictures next to it, or InfographicVQA/validation*.parquet",
        rows="2,801 (validation)",
        metric="ANLS",
        read=partial(read, "infographicsvqa", "infographicsVQA_val*.json", "InfographicVQA"),
        needs="the test split's answers are not public",
        hub="lmms-lab/DocVQA",
    ),
    Benchmark(
        name="docvqa",
        measures="reading scanned documents",
        files="val_v1.0*.json with the pictures next to it, or DocVQA/validation*.parquet",
        rows="5,349 (validation)",
        metric="ANLS",
        read=partial(read, "docvqa", "val_v1.0*.json", "DocVQA"),
        needs="the test split's answers are not public",
        hub="lmms-lab/DocVQA",
    ),
)
