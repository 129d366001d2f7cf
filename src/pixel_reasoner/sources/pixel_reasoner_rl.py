"""PixelReasoner-RL-Data: parquet files with question, image (files), answer, is_video and qid.

Pictures and frames are files next to the parquet file. A question without a known answer is skipped, because it cannot
be rewarded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pixel_reasoner.schema.media_url import is_url, media_exists
from pixel_reasoner.schema.question import AnswerType, MediaItem, Question
from pixel_reasoner.scoring.extraction import boxed
from pixel_reasoner.sources.base import MEDIA, SOURCES, FileSource
from pixel_reasoner.sources.cells import (
    check_values,
    is_missing,
    parse_answers,
    parse_list,
    parse_text,
    strip_placeholders,
)
from pixel_reasoner.sources.rows import (
    Row,
    RowError,
    SkippedRow,
    data_files,
    parquet_rows,
    try_build,
)

_LISTED_OPTION = re.compile(r"(?m)^\s*\(?[A-H][).:]\s")


class PixelReasonerRlSource(FileSource):
    """Questions of the published RL data: a parquet file, or all of a folder."""

    name: ClassVar[str] = "pixel_reasoner_rl"
    summary: ClassVar[str] = "PixelReasoner-RL-Data: questions with answers, pictures and frames"

    def read(self, folder: Path) -> Iterator[Row]:
        """Yield the rows of all files."""
        seen: set[str] = set()
        for path in data_files(self.data, "*.parquet"):
            rows = parquet_rows(path, ("question", "image", "answer"), ("qid", "is_video"))
            for number, row in enumerate(rows):
                where = f"{path.stem}-{number}"
                name = where if is_missing(row.get("qid")) else str(row["qid"])
                if name in seen:
                    yield SkippedRow(name, "duplicate_id", name)
                    continue
                seen.add(name)
                yield try_build(name, partial(_question, name, row, path.parent, folder / MEDIA))


SOURCES.register(PixelReasonerRlSource.name, PixelReasonerRlSource)


def _question(name: str, row: dict[str, Any], folder: Path, pictures: Path) -> Question:
    """Return the question of a row. Paths are relative to the folder of the file."""
    check_values(row, [key for key in ("qid", "question", "answer") if key in row])
    parse_text(row.get("qid", name), "qid")
    media = _media(row, folder, pictures)
    num_placeholders = len(re.findall("<image>", row["question"]))
    # A video has one placeholder, or one for each of its frames.
    num_media = num_placeholders if row.get("is_video") and num_placeholders != 1 else len(media)
    if row.get("is_video") and num_placeholders not in (0, 1, len(row["image"])):
        raise RowError("bad_placeholder", f"expected one <image>; got {num_placeholders}")
    answers = tuple(_accepted(row["answer"]))
    text = strip_placeholders(row["question"], num_media)
    return Question(
        id=name,
        text=text,
        media=tuple(media),
        answer=answers,
        answer_type=_kind(text, answers),
        category=name.partition("-")[0],
    )


def _media(row: dict[str, Any], folder: Path, pictures: Path) -> list[MediaItem]:
    from pixel_reasoner.sources.pictures import load_picture  # loads media libraries

    cells = row["image"] if isinstance(row["image"], list) else [row["image"]]
    if not [cell for cell in cells if not is_missing(cell)]:
        raise RowError("missing_picture", "expected pictures; got none")
    media = [load_picture(cell, folder, pictures) for cell in cells]
    if absent := [media_item.path for media_item in media if not media_exists(media_item.path)]:
        raise RowError("missing_file", absent[0])
    if not row.get("is_video"):
        return media
    if not all(isinstance(cell, str) for cell in cells):
        raise RowError("bad_frames", "expected frames as paths; got bytes")
    if any(is_url(media_item.path) for media_item in media):
        raise RowError("bad_frames", "expected frames as local paths; got URLs")
    return _frames([Path(media_item.path) for media_item in media])


def _accepted(answer: Any) -> Iterator[str]:
    r"""Yield the accepted answers of a row: `\boxed{}` is removed, and a list written as Python text is parsed.

    Raises:
        RowError: no answer, or a missing item.

    >>> list(_accepted(["\\boxed{['a cat', 'cat']}"])), list(_accepted("4"))
    (['a cat', 'cat'], ['4'])
    """
    for one in parse_answers(answer):
        text = (boxed(one) or "") if "\\boxed" in one else one.strip()
        listed = parse_list(text)
        yield from parse_answers(listed if listed is not None else text)


def _kind(text: str, answers: Sequence[str]) -> AnswerType:
    """Return the answer type.

    The data set has no such column: the type is inferred from the answers and from listed options.
    """
    if all(re.fullmatch(r"\(?[A-H]\)?", one) for one in answers) and _LISTED_OPTION.search(text):
        return AnswerType.CHOICE
    if all(re.fullmatch(r"-?\d+(?:[.,]\d+)*", one) for one in answers):
        return AnswerType.NUMBER
    return AnswerType.TEXT


def _frames(files: list[Path]) -> list[MediaItem]:
    folders = {path.parent for path in files}
    if len(folders) != 1:
        raise RowError("bad_frames", f"expected frames of one folder; got {len(folders)} folders")
    (parent,) = folders
    named, kinds = {path.name for path in files}, {path.suffix for path in files}
    others = [one.name for one in parent.iterdir() if one.suffix in kinds and one.name not in named]
    if others:
        detail = f"expected all frames of {parent.name}; not in the row: {len(others)}"
        raise RowError("bad_frames", detail)
    return [MediaItem(kind="frames", path=str(parent))]
