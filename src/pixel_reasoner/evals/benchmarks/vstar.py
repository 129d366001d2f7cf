"""V* Bench (arXiv 2312.14135): attributes and relative positions of small objects in high-resolution photographs.

Two layouts: `test_questions.jsonl` next to the folders of pictures, or the folders alone with a JSON file per picture:
`question`,
`options` (the first is right) and boxes. In the second layout the options are shuffled, with the picture's name as
seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.benchmark import Benchmark, RowDraft, register_benchmarks
from pixel_reasoner.evals.readers import choice, files_below, find_media_file, image, question
from pixel_reasoner.files import numbered_lines
from pixel_reasoner.media.images import image_size
from pixel_reasoner.schema.question import Evidence, Question
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS
from pixel_reasoner.sources.boxes import parse_box
from pixel_reasoner.sources.cells import check_values, letter_options, parse_text
from pixel_reasoner.sources.rows import RowError, SkippedRow, json_object

FOLDERS = ("direct_attributes", "relative_position")


def read(data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of either layout."""
    del media
    files = files_below(data, "test_questions.jsonl", *(f"{name}/*.json" for name in FOLDERS))
    if files[0].suffix == ".jsonl":
        for number, line in numbered_lines(files[0], "test_questions.jsonl"):
            yield RowDraft(f"line {number}", partial(_of_line, line, files[0].parent))
        return
    for folder in FOLDERS:
        for path in sorted((data / folder).glob("*.json")):
            yield RowDraft(f"{folder}/{path.name}", partial(_of_picture, path))


def _of_line(line: str, folder: Path) -> Question:
    row = json_object(line)
    check_values(row, ("question_id", "image", "text", "category", "label"))
    path = find_media_file(folder, parse_text(row["image"], "image"))
    text, *listed = re.split(r"\n?\s*\(([A-Z])\)\s*", row["text"])
    options = dict(zip(listed[::2], listed[1::2], strict=True))
    if len(options) < len(listed) // 2:
        raise RowError("bad_options", f"expected each letter once; got {' '.join(listed[::2])}")
    # The last option is followed by "Answer with the option's letter ... directly", which forbids reasoning.
    options = {letter: option.partition("\n")[0].strip() for letter, option in options.items()}
    notes = path.with_suffix(".json")
    return question(
        id=f"vstar-{row['question_id']}",
        media=(image(path),),
        category=row["category"],
        evidence=_evidence(json_object(notes.read_text("utf-8-sig")), path)
        if notes.exists()
        else None,
        **choice(text, options, row["label"]),
    )


def _of_picture(notes: Path) -> Question:
    row = json_object(notes.read_text(encoding="utf-8-sig"))
    check_values(row, ("question", "options"))
    path = next((p for p in sorted(notes.parent.glob(f"{notes.stem}.*")) if p != notes), None)
    if path is None:
        raise RowError("missing_file", f"expected a picture next to {notes.name}; got none")
    options = [parse_text(option, "options") for option in row["options"]]
    shuffled = random.Random(f"vstar/{notes.stem}").sample(options, len(options))
    right = letter_options(shuffled)
    return question(
        id=f"vstar-{notes.parent.name}-{notes.stem}",
        media=(image(path),),
        category=notes.parent.name,
        evidence=_evidence(row, path),
        **choice(row["question"], right, options[0] if options else "", given="text"),
    )


def _evidence(row: dict[str, Any], path: Path) -> Evidence | None:
    boxes = row.get("bbox")
    if not boxes:
        return None
    size = image_size(path, DEFAULT_MEDIA_LIMITS)
    corners = [(x, y, min(size[0], x + w), min(size[1], y + h)) for x, y, w, h in boxes]
    subjects = tuple(parse_text(one, "target_object") for one in row.get("target_object") or ())
    return Evidence(
        boxes=tuple(parse_box(box, size) for box in corners),
        subjects=subjects if len(subjects) == len(boxes) else (),
    )


register_benchmarks(
    Benchmark(
        name="vstar",
        measures="small details in high-resolution photographs: attributes and relative positions",
        files="test_questions.jsonl, or only direct_attributes/*.json and relative_position/*.json, next to the pictures",
        rows="191",
        metric="accuracy",
        read=read,
        categories=FOLDERS,
        hub="craigwu/vstar_bench",
    ),
)
