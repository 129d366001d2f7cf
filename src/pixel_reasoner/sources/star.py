"""STAR: situated questions about Charades videos.

`STAR_*.json`, and the videos as `VIDEO_ID.mp4` anywhere below the folder. A row has question_id, video_id, start and end
(seconds), question, answer, choices, and situations by key frame (number of a frame of the video).

Departure from the paper's data (arXiv 2505.15966)
    STAR's key frames are frames of the whole video; the input is 16 frames of the part that is asked about. The evidence is the
    sampled frame nearest in time to each key frame.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.question import AnswerType, Evidence, MediaItem, Question
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS
from pixel_reasoner.sources.base import SOURCES, FileSource
from pixel_reasoner.sources.rows import (
    Row,
    RowError,
    data_files,
    has_keys,
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
                name = f"star-{row.get('question_id', '?')}"
                yield try_build(name, partial(_situation, name, row, videos))


SOURCES.register(StarSource.name, StarSource)


def _situation(name: str, row: dict[str, Any], videos: Mapping[str, Path]) -> Question:
    has_keys(
        row,
        ("question_id", "video_id", "start", "end", "question", "answer", "choices", "situations"),
    )
    path = videos.get(str(row["video_id"]))
    if path is None:
        raise RowError("missing_file", f"expected {row['video_id']}.mp4 below the folder")
    choices = [str(choice["choice"]) for choice in row["choices"]]
    if row["answer"] not in choices:
        raise RowError(
            "answer_not_among_options", f"expected one of {choices}; got {row['answer']!r}"
        )
    options = dict(zip(string.ascii_uppercase, choices, strict=False))
    letter = string.ascii_uppercase[choices.index(row["answer"])]
    medium = MediaItem(
        kind="video", path=str(path), start_s=float(row["start"]), end_s=float(row["end"])
    )
    return Question(
        id=name,
        text=with_options(row["question"], options),
        media=(medium,),
        answer=(letter,),
        answer_type=AnswerType.CHOICE,
        options=options,
        category="star",
        needs_look=True,
        evidence=Evidence(
            frames=_nearest_frames(medium, [int(key) for key in row["situations"]]),
            subjects=("what the question is about",),
            findings=(f"these frames show that the answer is {letter}, {row['answer']}",),
        ),
    )


def _nearest_frames(medium: MediaItem, keys: list[int]) -> tuple[int, ...]:
    """Return the sampled frames nearest in time to frames of the whole video."""
    import av

    from pixel_reasoner.media.videos import sample_video
    from pixel_reasoner.operations.frames import MAX_SELECTED_FRAMES

    try:
        sampled = sample_video(
            Path(medium.path), DEFAULT_MEDIA_LIMITS, medium.start_s, medium.end_s
        )
    except InputError as error:
        raise RowError("unusable_medium", str(error)) from error
    with av.open(medium.path) as container:
        rate = container.streams.video[0].average_rate
    if not keys or not rate or min(keys) < 0:
        raise RowError("bad_frame", f"expected numbers of key frames; got {keys}")
    times = [frame.time_s or 0.0 for frame in sampled]
    nearest = {
        min(range(len(times)), key=lambda n: abs(times[n] - key / float(rate))) for key in keys
    }
    return tuple(sorted(number + 1 for number in nearest))[:MAX_SELECTED_FRAMES]
