"""Questions to play: what RL asks, as references to media and never as pixels.

    questions.jsonl     of this project, or rows of the neutral JSONL (`data.seeds`)
    *.parquet           PixelReasoner-RL-Data: question, image (files), answer, is_video, qid
    pixelworld          any number of scenes of the embedded world's training split

A row that cannot be used is a `SkippedRow` that says why. A question without a known answer cannot be rewarded: it is dropped.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pixel_reasoner.dialects import boxed
from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.question import AnswerType, MediaItem, Question, with_media_root
from pixel_reasoner.sources.annotated import read_seeds, scene_seeds
from pixel_reasoner.sources.rows import (
    Row,
    RowError,
    SkippedRow,
    data_files,
    parquet_rows,
    try_build,
)
from pixel_reasoner.world import Family, scenes, write_media
from pixel_reasoner.world.render import medium_of

_LISTED_OPTION = re.compile(r"(?m)^\s*\(?[A-H][).:]\s")


@dataclass(frozen=True, kw_only=True)
class WorldMix:
    """Questions of the embedded world, from its training split; one a scene."""

    families: tuple[str, ...] = get_args(Family)
    """which families of PixelWorld"""
    count: int = 256
    """questions of each family"""
    seed: int = 0
    """the first scene of each family"""
    overview_share: float = 0.5
    """how many of the questions need no look"""

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not 0 <= self.overview_share <= 1:
            raise UsageError(
                expected="overview_share from 0 to 1",
                got=str(self.overview_share),
                fix="correct it under [pixelworld]",
            )


def read_questions(source: Path) -> Iterator[Row]:
    """The questions of a file or folder, checked.

    Raises:
        InputError: no such place, or nothing in it that holds questions.
    """
    parquet = source.suffix == ".parquet" or (source.is_dir() and any(source.glob("*.parquet")))
    rows = _read_parquet(source) if parquet else read_seeds("jsonl", source, source)
    for row in rows:
        if isinstance(row, Question) and not row.answer:
            yield SkippedRow(row.id, "no_answer", "expected an answer, to reward a rollout by")
        else:
            yield row


def world_questions(mix: WorldMix, folder: Path) -> Iterator[Question]:
    """One question a scene of the embedded world's training split; media are rendered into a folder, those that exist kept.

    Raises:
        UsageError: an unknown family, or a count that the split does not have.
    """
    for family in mix.families:
        for scene in scenes(family, "train", mix.seed, mix.count):  # type: ignore[arg-type]
            medium = medium_of(scene)
            if not (folder / medium.path).exists():
                write_media(scene, folder / medium.path)
            rng = random.Random(f"questions/{scene.id}/{mix.overview_share}")
            share = float(rng.random() < mix.overview_share)
            (question,) = scene_seeds(scene, medium, 1, share, rng)
            yield with_media_root(question, folder)


def _read_parquet(source: Path) -> Iterator[Row]:
    seen: set[str] = set()
    for path in data_files(source, "*.parquet"):
        rows = parquet_rows(path, ("question", "image", "answer"), ("qid", "is_video"))
        for number, row in enumerate(rows):
            name = str(row.get("qid") or f"{path.stem}-{number}")
            if name in seen:
                yield SkippedRow(name, "duplicate_id", name)
                continue
            seen.add(name)
            yield try_build(name, partial(_released, name, row, path.parent))


def _released(name: str, row: dict[str, Any], folder: Path) -> Question:
    """A row of PixelReasoner-RL-Data. Paths are relative to the file's folder."""
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
    r"""The accepted answers of a row: `\boxed{}` is taken off, and a list written as Python text is read.

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
    """How a row's answer is compared: the set does not say, so it is told by the answer and by listed options."""
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
