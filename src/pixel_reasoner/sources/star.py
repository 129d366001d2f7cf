"""STAR: situated questions about Charades videos.

`STAR_*.json`, and the videos as `VIDEO_ID.mp4` anywhere below the folder. A row has question_id, video_id, start and end
(seconds), question, answer, choices, and situations by key frame (number of a frame of the video).

Departure from the paper's data (arXiv 2505.15966)
    STAR's key frames are frames of the whole video. The input is 16 frames of the relevant part. The evidence is the
    sampled
     frame nearest in time to each key frame, limited to the number of frames that one call can select.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pixel_reasoner.schema.question import AnswerType, Evidence, MediaItem, Question
from pixel_reasoner.sources.base import SOURCES, FileSource
from pixel_reasoner.sources.boxes import frames_at
from pixel_reasoner.sources.cells import check_values, letter_options, parse_number, parse_text
from pixel_reasoner.sources.rows import (
    Row,
    RowError,
    data_files,
    json_objects,
    try_build,
    with_options,
)


class StarSource(FileSource):
    """Situated questions of STAR: a folder with `STAR_*.json` and videos."""

    name: ClassVar[str] = "star"
    summary: ClassVar[str] = "STAR: questions about Charades videos, with key frames"

    def read(self, folder: Path) -> Iterator[Row]:
        """Yield the rows of all files."""
        del folder
        videos = {path.stem: path for path in sorted(self.data.rglob("*.mp4"))}
        for path in data_files(self.data, "STAR_*.json"):
            for row in json_objects(path):
                name = f"star-{row.get('question_id') or '?'}"
                yield try_build(name, partial(_situation, name, row, videos))


SOURCES.register(StarSource.name, StarSource)


def _situation(name: str, row: dict[str, Any], videos: Mapping[str, Path]) -> Question:
    check_values(
        row,
        ("question_id", "video_id", "start", "end", "question", "answer", "choices", "situations"),
    )
    path = videos.get(parse_text(row["video_id"], "video_id"))
    if path is None:
        raise RowError("missing_file", f"expected {row['video_id']}.mp4 below the folder")
    choices = [parse_text(choice["choice"], "choices") for choice in row["choices"]]
    if row["answer"] not in choices:
        raise RowError(
            "answer_not_among_options", f"expected one of {choices}; got {row['answer']!r}"
        )
    options = letter_options(choices)
    letter = list(options)[choices.index(row["answer"])]
    start_s, end_s = (parse_number(row[key], key) for key in ("start", "end"))
    media_item = MediaItem(kind="video", path=str(path), start_s=start_s, end_s=end_s)
    return Question(
        id=name,
        text=with_options(parse_text(row["question"], "question"), options),
        media=(media_item,),
        answer=(letter,),
        answer_type=AnswerType.CHOICE,
        options=options,
        category="star",
        needs_look=True,
        evidence=Evidence(
            frames=_nearest_frames(media_item, [int(key) for key in row["situations"]]),
            subjects=("what the question is about",),
            findings=(f"these frames show that the answer is {letter}, {row['answer']}",),
        ),
    )


def _nearest_frames(media_item: MediaItem, keys: list[int]) -> tuple[int, ...]:
    """Return the sampled frames nearest in time to frames of the whole video."""
    import av

    from pixel_reasoner.operations.frames import MAX_SELECTED_FRAMES

    try:
        with av.open(media_item.path) as container:
            rate = container.streams.video[0].average_rate
    except (OSError, IndexError) as error:
        raise RowError("unusable_medium", f"{media_item.path}: {error}") from error
    if not keys or not rate or min(keys) < 0:
        raise RowError("bad_frame", f"expected numbers of key frames; got {keys}")
    times_s = [key / float(rate) for key in keys]
    return frames_at(media_item, times_s, within=False)[:MAX_SELECTED_FRAMES]
