"""Video-MME (arXiv 2405.21075): 900 videos from 11 seconds to an hour, three questions each, without subtitles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pixel_reasoner.evals.benchmark import Benchmark, RowDraft, register_benchmarks
from pixel_reasoner.evals.readers import choice, files_below, question
from pixel_reasoner.files import path_exists
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.sources.cells import (
    check_values,
    is_missing,
    letter_options,
    optional_text,
    parse_text,
)
from pixel_reasoner.sources.rows import RowError, SkippedRow, parquet_rows

SUFFIXES = (".mp4", ".MP4", ".mkv", ".webm")


def read(data: Path, media: Path) -> Iterator[RowDraft | SkippedRow]:
    """Yield the rows of the parquet file; videos are `data/<videoID>.mp4`."""
    del media
    for path in files_below(data, "videomme/test*.parquet", "test*.parquet"):
        needed = ("videoID", "question", "options", "answer")
        also = ("question_id", "duration", "domain", "sub_category", "task_type")
        for number, row in enumerate(parquet_rows(path, needed, also)):
            yield RowDraft(f"{path.name}, row {number}", partial(_question, number, row, data))


def _question(number: int, row: dict[str, Any], data: Path) -> Question:
    check_values(row, ("videoID", "question", "answer"))
    name = parse_text(row["videoID"], "videoID")
    places = [
        data / below / f"{name}{end}" for below in ("data", "videos", ".") for end in SUFFIXES
    ]
    path = next((place for place in places if path_exists(place)), None)
    if path is None:
        raise RowError("missing_file", f"expected data/{name}.mp4 below {data}")
    labels = {
        key: parse_text(row[key], key)
        for key in ("domain", "task_type")
        if not is_missing(row.get(key))
    }
    return question(
        id=f"videomme-{optional_text(row.get('question_id'), 'question_id') or number}",
        media=(MediaItem(kind="video", path=str(path)),),
        category=optional_text(row.get("duration"), "duration"),
        labels=labels,
        **choice(row["question"], letter_options(row["options"] or ()), row["answer"]),
    )


register_benchmarks(
    Benchmark(
        name="videomme",
        measures="videos of all lengths, six domains, without subtitles",
        files="videomme/test*.parquet, and data/<videoID>.mp4",
        rows="2,700 (900 videos)",
        metric="accuracy",
        read=read,
        categories=("short", "medium", "long"),
        hub="lmms-lab/Video-MME",
    ),
)
