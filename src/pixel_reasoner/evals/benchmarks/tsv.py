"""Any TSV in VLMEvalKit's format: index, image (base64, or the index of a row that has it) or image_path, question, options A, B, ... (to Z), answer.

A row with options is a choice, a row with a whole number as answer is a count, any other row is a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from pixel_reasoner.evals.benchmark import Benchmark, RowDraft, register_benchmarks
from pixel_reasoner.evals.readers import (
    choice,
    columns,
    files_below,
    find_media_file,
    image,
    question,
    tsv_rows,
)
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.sources.cells import (
    check_values,
    missing_value_error,
    parse_answers,
    parse_list,
    parse_text,
)
from pixel_reasoner.sources.pictures import save_base64_picture
from pixel_reasoner.sources.rows import RowError, SkippedRow

INDEX_LENGTH = 64
"""minimum length of an image; a shorter `image` cell is the index of another row"""


def read(data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of all TSV files of a folder.

    A row may refer to another row's picture, so pictures are written immediately.
    """
    for path in files_below(data, "*.tsv"):
        seen: dict[str, tuple[MediaItem, ...]] = {}
        for number, row in enumerate(tsv_rows(path, ("index", "question")), start=1):
            if isinstance(row, SkippedRow):
                yield row
                continue
            where = f"{path.name}, row {number}"
            try:
                pictures = seen[row["index"]] = _pictures(row, path.parent, media, seen)
            except RowError as error:
                yield SkippedRow(where, error.reason, str(error))
                continue
            row.pop("image", None)  # a draft contains no pixels
            yield RowDraft(where, partial(_question, row, path.stem, pictures))


def _question(row: dict[str, str], name: str, pictures: tuple[MediaItem, ...]) -> Question:
    check_values(row, ("index", "question"))
    options = columns(row)
    hint = f"{row['hint']}\n" if row.get("hint") not in (None, "", "nan") else ""
    answers = _answers(row)
    if options:
        answer = answers[0] if len(answers) == 1 else row["answer"]
        fields = choice(hint + row["question"], options, answer)
    else:
        kind = "integer" if all(answer.isdigit() for answer in answers) else "text"
        text = hint + row["question"]
        fields = {"text": text, "answer": answers, "answer_type": kind}
    domain = row.get("l2-category", "")
    return question(
        id=f"{name}-{row['index']}",
        media=pictures,
        category=row.get("category", ""),
        labels={"domain": domain} if domain else {},
        **fields,
    )


def _answers(row: Mapping[str, str]) -> tuple[str, ...]:
    """Return the accepted answers of a row: its cell, or the items of a list in the cell."""
    cell = row.get("answer", "").strip()
    if not cell or cell == "nan":
        raise missing_value_error("answer")
    listed = parse_list(cell)
    return parse_answers(cell if listed is None else listed)


def _pictures(
    row: dict[str, str], folder: Path, media: Path, seen: Mapping[str, tuple[MediaItem, ...]]
) -> tuple[MediaItem, ...]:
    cell = row.get("image", "")
    if not cell and row.get("image_path"):
        names = _several(row["image_path"])
        return tuple(image(find_media_file(folder, name, "images")) for name in names)
    if cell and len(cell) < INDEX_LENGTH and cell in seen:
        return seen[cell]
    return tuple(save_base64_picture(one, media) for one in _several(cell))


def _several(cell: str) -> list[str]:
    """Return the items of a cell that is a list, or the cell itself."""
    if not cell.startswith("["):
        return [cell]
    listed = parse_list(cell)
    if listed is None:
        raise RowError("bad_value", f"expected a list; got {cell[:80]}")
    if not listed:
        raise RowError("missing_picture", "expected pictures; got an empty list")
    return [parse_text(one, "image") for one in listed]


register_benchmarks(
    Benchmark(
        name="tsv",
        measures="your own questions",
        files="*.tsv in VLMEvalKit's format",
        rows="any",
        metric="accuracy",
        read=read,
    ),
)
