"""Own rows: JSONL files with one question per line.

A row has `id`, `media` (`[{"type": "image|video|frames", "path", "start", "end", "page"}]`), `question`, `answer` (a text or a
list of accepted ones) and may have `options` (letter -> text), `answer_type` (mcq, int, anls, free), `boxes`
(x1, y1, x2, y2 in pixels) on picture number `image`, `frames` (numbers of the 16 sampled ones), `subjects`,
`findings`, `needs_look`, `reasoning`, `category`, `group` (rows that depend on each other), `prompt_suffix`. Rows of
InSight-o3's benchmarks are read too. A row with `text` is a question as this project writes it. Paths are relative to
the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import numbered_lines
from pixel_reasoner.schema.question import AnswerType, MediaItem, Question, with_media_root
from pixel_reasoner.sources.base import SOURCES, FileSource
from pixel_reasoner.sources.rows import (
    Row,
    RowError,
    boxes_on_picture,
    data_files,
    has_keys,
    json_object,
    try_build,
    with_options,
)

ANSWER_TYPES = {
    "mcq": AnswerType.CHOICE,
    "int": AnswerType.INTEGER,
    "anls": AnswerType.ANLS,
    "free": AnswerType.TEXT,
    **{str(kind): kind for kind in AnswerType},
}
ROW_KEYS = (
    *("id", "benchmark", "split", "category", "group", "media", "question", "prompt_suffix"),
    *("options", "answer", "answer_type", "image", "boxes", "frames", "subjects", "findings"),
    *("needs_look", "reasoning"),
)


class JsonlSource(FileSource):
    """Own rows: a `.jsonl` file, or all of a folder."""

    name: ClassVar[str] = "jsonl"
    summary: ClassVar[str] = "own rows: a JSONL file, or all of a folder"

    def read(self, folder: Path) -> Iterator[Row]:
        """Yield the rows of all files."""
        del folder
        for path in data_files(self.data, "*.jsonl"):
            for number, line in numbered_lines(path, "a JSONL file with one row a line"):
                where = f"{path.name}, line {number}"
                yield try_build(where, partial(_question_of_line, line, path.parent))


SOURCES.register(JsonlSource.name, JsonlSource)


def _question_of_line(line: str, folder: Path) -> Question:
    return question_of_row(json_object(line), folder)


def question_of_row(row: dict[str, Any], folder: Path) -> Question:
    """Return the question of a row.

    Args:
        row: as this module describes.
        folder: what relative paths are relative to.

    Raises:
        RowError: a row of another form.
        ValidationError: a value of another form.

    >>> row = {"id": 1, "media": [{"type": "image", "path": "a.png"}], "question": "How many?", "answer": 2}
    >>> question_of_row(row, Path("here")).media[0].path
    'here/a.png'
    """
    if "text" in row:
        try:
            return with_media_root(Question.from_object(row), folder)
        except InputError as error:
            raise RowError("bad_value", error.got) from error
    row = _with_our_names(row)
    has_keys(row, ("id", "media", "question", "answer"))
    unknown = sorted(set(row) - set(ROW_KEYS))
    if unknown:
        raise RowError("unknown_keys", f"expected {' '.join(ROW_KEYS)}; got {' '.join(unknown)}")
    return Question.model_validate(_fields(row, folder))


def _fields(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the fields of the `Question` of a checked row."""
    media = [_medium(one, folder) for one in row["media"]]
    options = row.get("options") or {}
    answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
    kind = row.get("answer_type") or ("mcq" if options else "free")
    if kind not in ANSWER_TYPES:
        raise RowError("unknown_answer_type", f"expected {', '.join(ANSWER_TYPES)}; got {kind!r}")
    evidence = {
        "boxes": boxes_on_picture(row.get("boxes") or (), row.get("image", 1), media),
        **{
            name: row[name] for name in ("image", "frames", "subjects", "findings") if row.get(name)
        },
    }
    also = ("needs_look", "category", "group", "reasoning")
    return {
        "id": str(row["id"]),
        "text": with_options(str(row["question"]), options) + (row.get("prompt_suffix") or ""),
        "media": media,
        "answer": [str(answer) for answer in answers],
        "answer_type": ANSWER_TYPES[kind],
        "options": options,
        "evidence": evidence if evidence["boxes"] or evidence.get("frames") else None,
        **{name: row[name] for name in also if row.get(name) is not None},
    }


def _with_our_names(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of InSight-o3's benchmarks (question_id, image or file_name, subset, options as lines) with our keys."""
    theirs = {"question_id": "id", "subset": "category"}
    row = {theirs.get(name, name): value for name, value in row.items()}
    # `image` is the number of a picture in a row of ours, which has media, and a file in one of theirs.
    file = next((name for name in ("file_name", "image") if name in row), None)
    if "media" not in row and file:
        row["media"] = [{"type": "image", "path": row.pop(file)}]
    if isinstance(row.get("options"), str):
        row["options"] = dict(re.findall(r"(?m)^\(?([A-Z])[).:]\s*(.+?)\s*$", row["options"]))
    return row


def _medium(one: Any, folder: Path) -> MediaItem:
    if not isinstance(one, dict) or "path" not in one:
        raise RowError(
            "bad_medium", f'expected {{"type": ..., "path": ...}}; got {json.dumps(one)}'
        )
    return MediaItem.model_validate(
        {
            "kind": one.get("type", "image"),
            "path": str(folder / str(one["path"])),
            "start_s": one.get("start") or 0.0,
            "end_s": one.get("end"),
            "page": one.get("page"),
        }
    )
