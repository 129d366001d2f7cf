"""PixelReasoner-RL-Data: parquet files with question, image (files), answer, is_video and qid.

Pictures and frames are files beside the parquet file. A question without a known answer cannot be rewarded: it is skipped.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pixel_reasoner.schema.question import AnswerType, MediaItem, Question
from pixel_reasoner.scoring.extraction import boxed
from pixel_reasoner.sources.base import SOURCES, FileSource
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
    """Questions of the released RL data: a parquet file, or all of a folder."""

    name: ClassVar[str] = "pixel_reasoner_rl"
    summary: ClassVar[str] = "PixelReasoner-RL-Data: questions with answers, pictures and frames"

    def read(self, folder: Path) -> Iterator[Row]:
        """Yield the rows of all files."""
        del folder
        seen: set[str] = set()
        for path in data_files(self.data, "*.parquet"):
            rows = parquet_rows(path, ("question", "image", "answer"), ("qid", "is_video"))
            for number, row in enumerate(rows):
                name = str(row.get("qid") or f"{path.stem}-{number}")
                if name in seen:
                    yield SkippedRow(name, "duplicate_id", name)
                    continue
                seen.add(name)
                yield try_build(name, partial(_question, name, row, path.parent))


SOURCES.register(PixelReasonerRlSource.name, PixelReasonerRlSource)


def _question(name: str, row: dict[str, Any], folder: Path) -> Question:
    """Return the question of a row. Paths are relative to the folder of the file."""
    files = [folder / one for one in row["image"] or ()]
    if missing := [str(path) for path in files if not path.is_file()]:
        raise RowError("missing_file", missing[0])
    answers = tuple(_accepted(row["answer"]))
    if not answers or not row["question"]:
        raise RowError("no_answer", f"expected a question and an answer; got {row['answer']!r}")
    text = row["question"].removeprefix("<image>\n")
    return Question(
        id=name,
        text=text,
        media=tuple(_frames(files) if row.get("is_video") else map(_picture, files)),
        answer=answers,
        answer_type=_kind(text, answers),
        category=name.partition("-")[0],
    )


def _accepted(answer: str | list[str] | None) -> Iterator[str]:
    r"""Yield the accepted answers of a row: `\boxed{}` is removed, and a list written as Python text is parsed.

    >>> list(_accepted(["\\boxed{['a cat', 'cat']}"])), list(_accepted("4"))
    (['a cat', 'cat'], ['4'])
    """
    for one in [answer] if isinstance(answer, str) else answer or ():
        text = boxed(one) if "\\boxed" in one else one.strip()
        if not text:
            continue
        try:
            read = ast.literal_eval(text) if text.startswith("[") else None
        except (ValueError, SyntaxError):
            read = None
        yield from map(str, read) if isinstance(read, list) and read else [text]


def _kind(text: str, answers: Sequence[str]) -> AnswerType:
    """Return how an answer is compared. The data set does not say: it is inferred from the answers and from listed options."""
    if all(re.fullmatch(r"\(?[A-H]\)?", one) for one in answers) and _LISTED_OPTION.search(text):
        return AnswerType.CHOICE
    if all(re.fullmatch(r"-?\d+(?:[.,]\d+)*", one) for one in answers):
        return AnswerType.NUMBER
    return AnswerType.TEXT


def _picture(path: Path) -> MediaItem:
    return MediaItem(kind="image", path=str(path))


def _frames(files: list[Path]) -> list[MediaItem]:
    folders = {path.parent for path in files}
    if len(folders) != 1:
        raise RowError("bad_frames", f"expected frames of one folder; got {len(folders)} folders")
    return [MediaItem(kind="frames", path=str(folders.pop()))]
